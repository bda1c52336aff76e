"""A repair as a whole, on a node of fakes that was set up and proved and that somebody has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent import paths
from agent.apply import repair
from agent.apply.gate import Urgency
from agent.apply.repair import RepairOutcome
from agent.commands.internal import inspect
from agent.config.model import ContainerdConfig, ContainerdMode, DriftConfig, Repair
from agent.errors import ApplyError
from agent.proof import drift
from agent.records import generations
from tests.fakes.faults import Crash
from tests.unit.change_stage import finish
from tests.unit.plan_node import CONTAINERD_CONFIG
from tests.unit.proved_node import ProvedNode, in_use, quiet, with_programs

TEMPLATE = paths.NYDUSD_TEMPLATE


@pytest.fixture
def node() -> ProvedNode:
    return in_use(with_programs(ProvedNode()))


def mend(made: ProvedNode, urgency: Urgency = Urgency.BY_HAND) -> RepairOutcome:
    with made.node.ledger.lock("repair"):
        return repair.run(made.config, made.node.ports, quiet(), urgency=urgency)


def published(made: ProvedNode) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.node.files.files[paths.DRIFT].content)
    return found


def test_a_node_as_it_was_applied_is_not_touched(node: ProvedNode) -> None:
    before = node.node.files.inodes()
    outcome = mend(node)
    assert outcome.proof is None
    assert {path for path, inode in node.node.files.inodes().items() if before.get(path) != inode} <= {
        paths.DRIFT
    }


def test_everything_that_carries_our_mark_is_put_back_and_proved_without_a_new_generation(
    node: ProvedNode,
) -> None:
    files, applied = node.node.files, node.etc()
    files.put(TEMPLATE, b"{}")
    files.drop(paths.SNAPSHOTTER_CONFIG)
    files.put(CONTAINERD_CONFIG, b"version = 2\n")
    outcome = mend(node)
    assert outcome.proof is not None
    assert outcome.proof.headline is None
    assert outcome.left == ()
    after = node.etc()
    assert after.pop(CONTAINERD_CONFIG) != applied.pop(CONTAINERD_CONFIG)  # the package's file, with our keys
    assert b'snapshotter = "nydus"' in files.files[CONTAINERD_CONFIG].content
    assert after == applied
    assert generations.numbers(files) == (1,)
    assert node.node.ledger.lines() == ()
    assert published(node)["findings"] == []


def test_what_somebody_has_edited_stays_to_be_read_by_root_alone(node: ProvedNode) -> None:
    node.node.files.put(TEMPLATE, b"somebody's work")
    mend(node)
    kept = node.node.files.files[f"{paths.REPLACED}/etc-nydus-nydusd-config.json"]
    assert (kept.content, kept.mode) == (b"somebody's work", 0o600)


def test_a_repair_that_fails_leaves_the_node_as_somebody_made_it(node: ProvedNode) -> None:
    files = node.node.files
    files.put(TEMPLATE, b"{}")
    changed = node.etc()
    node.node.units.fail_job(paths.SNAPSHOTTER_UNIT, "restart")
    with pytest.raises(ApplyError) as error:
        mend(node)
    assert error.value.code == "NNA0402"
    assert node.etc() == changed


def drifted() -> ProvedNode:
    """Somebody edited a file of ours, took another away, and a package replaced containerd's."""
    made = in_use(with_programs(ProvedNode()))
    made.node.files.put(TEMPLATE, b"{}")
    made.node.files.drop(paths.SNAPSHOTTER_CONFIG)
    made.node.files.put(CONTAINERD_CONFIG, b"version = 2\n")
    return made


def test_a_repair_that_is_killed_anywhere_is_undone_or_done() -> None:
    made = drifted()
    before, calls = made.etc(), len(made.node.faults.calls)
    mend(made)
    after = made.etc()
    outcomes = set()
    for nth in range(1, len(made.node.faults.calls) - calls + 1):
        made = drifted()
        made.node.faults.at(nth, Crash(), after=nth % 2 == 0)
        with pytest.raises(Crash):
            mend(made)
        made.node.ledger.held = ""
        finish(made.node)
        assert made.etc() in (before, after), nth
        assert not made.node.ledger.open
        assert generations.numbers(made.node.files) == (1,)
        outcomes.add(made.etc() == after)
    assert outcomes == {False, True}


def test_by_itself_the_same_thing_is_not_put_back_again_at_once_and_at_last_not_at_all(
    node: ProvedNode,
) -> None:
    files, clock = node.node.files, node.node.clock
    for _ in range(5):
        files.put(TEMPLATE, b"# managed by Ansible\n{}")
        assert mend(node, Urgency.BY_ITSELF).proof is not None
        files.put(TEMPLATE, b"# managed by Ansible\n{}")
        assert mend(node, Urgency.BY_ITSELF).proof is None
        clock.advance(4000)
    files.put(TEMPLATE, b"# managed by Ansible\n{}")
    outcome = mend(node, Urgency.BY_ITSELF)
    assert outcome.proof is None
    (told,) = published(node)["gave_up"]
    assert told.startswith(f"{TEMPLATE} was put back 5 times")
    assert mend(node).proof is not None  # by hand
    assert drift.read_repairs(files) == ()
    assert published(node)["gave_up"] == []


def test_a_mirror_that_is_dead_makes_a_repair_do_nothing(node: ProvedNode) -> None:
    node.say(health_state="down", route="origin")
    node.node.tables.held.clear()
    ran = len(node.node.faults.calls)
    assert mend(node, Urgency.BY_ITSELF).proof is None
    assert not [call for call in node.node.faults.calls[ran:] if call[0] == "job"]


def test_an_inspection_begins_a_repair_only_where_the_operator_wants_it(node: ProvedNode) -> None:
    node.node.processes.on("systemctl", "start", "--no-block", paths.REPAIR_UNIT)
    node.node.files.put(TEMPLATE, b"{}")
    ports = node.node.ports
    looked = drift.find_drift(node.config, ports)

    def begun(wish: Repair) -> bool:
        inspect._begin_repair(replace(node.config, drift=DriftConfig(wish)), ports, looked)
        return ("systemctl", "start", "--no-block", paths.REPAIR_UNIT) in node.node.processes.ran

    assert not begun(Repair.REPORT)
    assert begun(Repair.OWN)


def test_what_others_write_beside_our_keys_hides_no_change_that_is_pending(node: ProvedNode) -> None:
    files = node.node.files
    files.put(CONTAINERD_CONFIG, files.files[CONTAINERD_CONFIG].content + b"\n[debug]\nlevel = 'debug'\n")
    node.config = replace(node.config, containerd=ContainerdConfig(mode=ContainerdMode.PLUGIN_ONLY))
    proof = node.proof()
    assert proof.drift == ()
    assert any(CONTAINERD_CONFIG in one for one in proof.pending)


def test_a_snapshotter_that_was_down_is_started_and_containerd_gets_the_time_to_dial_it_again(
    node: ProvedNode,
) -> None:
    node.node.units.job(paths.SNAPSHOTTER_UNIT, "stop", deadline_s=1)
    made, dials = node.node, [False, False, False]
    made.containerd.backend_alive = lambda name: name != paths.PROXY_PLUGIN or not dials or dials.pop()
    began = made.clock.monotonic()
    outcome = mend(node)
    assert outcome.left == ()
    assert made.units.units[paths.SNAPSHOTTER_UNIT].active_state == "active"
    assert 0.5 <= made.clock.monotonic() - began <= 10
