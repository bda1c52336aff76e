"""The quick form of what `make bench-crash` does on a booted node: real restarts, a real containerd."""

from __future__ import annotations

import pytest

from tests.bench.survival import node

_ROUNDS = 10


# A change that is killed leaves drift until it is recovered; after the power cut mirror and registry are
# gone.
@pytest.mark.allow_warnings(r"^nydus-agent.service: (Drift: |ChangedSinceProof: |BothBad: |mirror \w+ -> )")
def test_a_change_that_is_killed_at_any_moment_leaves_a_node_on_which_containerd_starts() -> None:
    with node.installed() as booted:
        tallies = node.rounds(booted, _ROUNDS, seed=41)
    for tally in tallies:
        print(tally.name, dict(tally.counts))
    assert [line for tally in tallies for line in tally.story()] == []
    assert sum(tally.counts["containerd started"] for tally in tallies) == _ROUNDS
    assert sum(tally.counts["in the transaction"] for tally in tallies) >= _ROUNDS // 3
    assert sum(tally.counts["power cut"] for tally in tallies) == 1
