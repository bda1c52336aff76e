"""Whatever somebody without rights, a container, a registry, a mirror or an image tries against the node's
agent: no read fails, none is moved without a cause, and the agent goes on.
"""

from __future__ import annotations

import pytest

from tests.bench import hostile_node, report


@pytest.mark.allow_warnings(f"^nydus-agent.service: {hostile_node.WANT}")
def test_no_attack_without_rights_costs_a_read_moves_one_or_ends_the_agent() -> None:
    with hostile_node.rigged(hostile_node.QUICK_SECONDS) as rig:
        found = hostile_node.all_attacks(rig, hostile_node.QUICK_SECONDS)
        print(report.table(hostile_node.rows(found)))
        assert [goal for goal in hostile_node.goals(found, rig.usual) if not goal.met] == []
    for seen in found:
        assert len(seen.reads) > 20, seen.attack
        assert seen.through > 0, f"{seen.attack}: reads went through the mirror"
        assert seen.attack.startswith("nobody") or sum(seen.tried.values()) > 0, seen.attack
