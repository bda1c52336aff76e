"""Restarts by us are bounded, whatever the clocks do, and the account of them outlives us."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent import paths
from agent.apply import gate
from agent.errors import ApplyError, FileError
from agent.facts.node import Moment, UnitFact
from agent.plan.limits import NotBefore, Restart, RestartBudget, by_hand, by_itself, why_wait
from agent.steps import Plan, UnitStep, UnitVerb
from tests.fakes.faults import Crash
from tests.fakes.node import FakeNode
from tests.fakes.units import unit
from tests.unit.change_stage import OLD_STATE, a_node, apply, finish, state

UNIT = paths.CONTAINERD_UNIT
HOUR = 3600.0
RUNS_LONG = unit(UNIT, active=True, pid=5)
NOW = Moment(now=1_000_000.0, boottime=50_000.0, boot="b", up_s=50_000.0, monotonic=50_000.0)


def ago(*seconds: float, name: str = UNIT) -> list[Restart]:
    return [Restart(name, NOW.now - age, NOW.boot, NOW.boottime - age) for age in seconds]


def after(seconds: float, *, step: float = 0.0) -> Moment:
    """Time passes, and somebody steps the wall clock."""
    up = NOW.boottime + seconds
    return Moment(NOW.now + seconds + step, up, NOW.boot, up, up)


def started(seconds_ago: float) -> UnitFact:
    return replace(RUNS_LONG, inactive_exit_us=int((NOW.monotonic - seconds_ago) * 1e6))


def test_a_restart_within_the_budget_is_made_at_once() -> None:
    assert why_wait(RUNS_LONG, [], NOW, by_hand(2)) is None
    assert why_wait(RUNS_LONG, ago(10), NOW, by_hand(2)) is None


def test_beyond_the_budget_it_is_said_when_the_next_one_is_allowed() -> None:
    history = ago(3000, 10, 600)
    held = why_wait(RUNS_LONG, history, NOW, by_hand(3))
    assert isinstance(held, NotBefore)
    assert held.seconds == pytest.approx(600)
    assert "3 restarts of containerd.service within the last hour" in held.reason
    assert isinstance(why_wait(RUNS_LONG, history, after(599), by_hand(3)), NotBefore)
    assert why_wait(RUNS_LONG, history, after(600), by_hand(3)) is None


def test_a_budget_that_was_exceeded_by_undoes_waits_until_it_holds_again() -> None:
    held = why_wait(RUNS_LONG, ago(100, 200, 300, 400), NOW, by_hand(2))
    assert isinstance(held, NotBefore)
    assert held.seconds == pytest.approx(HOUR - 200)


def test_each_unit_has_a_budget_of_its_own() -> None:
    assert why_wait(RUNS_LONG, ago(1, 2, 3, name=paths.SNAPSHOTTER_UNIT), NOW, by_hand(1)) is None


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_a_stepped_wall_clock_neither_widens_the_budget_nor_shuts_it(step: float) -> None:
    history = ago(10)
    assert isinstance(why_wait(RUNS_LONG, history, after(0, step=step), by_hand(1)), NotBefore)
    assert isinstance(why_wait(RUNS_LONG, history, after(HOUR - 11, step=step), by_hand(1)), NotBefore)
    assert why_wait(RUNS_LONG, history, after(HOUR - 10, step=step), by_hand(1)) is None


def test_after_a_reboot_the_restarts_of_before_count_until_their_hour_is_over() -> None:
    history = ago(600)
    soon = Moment(NOW.now + 60, boottime=20.0, boot="c", up_s=20.0, monotonic=20.0)
    held = why_wait(RUNS_LONG, history, soon, by_hand(1))
    assert isinstance(held, NotBefore)
    assert held.seconds == pytest.approx(HOUR - 660)
    assert why_wait(RUNS_LONG, history, replace(soon, now=NOW.now + HOUR), by_hand(1)) is None


def test_a_reboot_into_the_past_shuts_the_budget_for_an_hour_at_most() -> None:
    history = ago(600)
    # In a container the boot clock is that of the host.
    past = Moment(now=0.0, boottime=9e6, boot="c", up_s=20.0, monotonic=9e6)
    assert isinstance(why_wait(RUNS_LONG, history, past, by_hand(1)), NotBefore)
    assert why_wait(RUNS_LONG, history, replace(past, up_s=HOUR), by_hand(1)) is None


def test_what_begins_by_itself_leaves_half_of_the_budget_to_people() -> None:
    history = ago(200, 300, 400)
    assert isinstance(why_wait(started(200), history, NOW, by_itself(6)), NotBefore)
    assert why_wait(started(200), history, NOW, by_hand(6)) is None
    assert why_wait(started(200), ago(3000), NOW, by_itself(1)) is not None
    assert why_wait(started(200), [], NOW, by_itself(1)) is None


def test_what_begins_by_itself_waits_until_the_unit_has_run_for_a_while() -> None:
    held = why_wait(started(30), ago(31), NOW, by_itself(6))
    assert isinstance(held, NotBefore)
    assert held.seconds == pytest.approx(90)
    assert "has run for 30 s only" in held.reason
    assert why_wait(started(120), ago(121), NOW, by_itself(6)) is None
    assert why_wait(started(30), ago(31), NOW, by_hand(6)) is None


def test_a_node_that_is_set_up_right_after_its_boot_does_not_wait() -> None:
    assert why_wait(started(1), [], NOW, by_itself(6)) is None


def full_disk(node: FakeNode, *, after: int) -> None:
    """The account cannot be written any more once it was written `after` times."""
    written = []

    def refuse(path: str) -> None:
        if path == paths.RESTARTS:
            written.append(path)
            if len(written) > after:
                raise FileError("NNA0427", "disk is full")

    node.files.before_write = refuse


RESTART = Plan((UnitStep(UNIT, UnitVerb.RESTART, "because"),))
START = Plan((UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.START, "because"),))


def test_each_restart_of_a_change_is_counted_and_its_account_is_for_root_alone() -> None:
    node = a_node()
    apply(node)
    assert [one.unit for one in gate.history(node.files)] == [UNIT]
    file = node.files.files[paths.RESTARTS]
    assert (file.mode, file.uid) == (0o600, 0)
    assert json.loads(file.content)["kind"] == "Restarts"


def test_the_restart_of_an_undo_counts_and_is_never_refused() -> None:
    node = a_node()
    for _ in range(4):
        with pytest.raises(ApplyError) as caught:
            apply(node, prove=lambda: ApplyError("NNA0653", "no"))
        assert caught.value.code == "NNA0402"
    assert len(gate.history(node.files)) == 8
    assert isinstance(gate.judge(node.ports, UNIT, by_hand(6)), NotBefore)


def test_an_undo_goes_on_where_the_account_cannot_be_written() -> None:
    node = a_node()
    full_disk(node, after=1)
    with pytest.raises(ApplyError) as caught:
        apply(node, prove=lambda: ApplyError("NNA0653", "no"))
    assert caught.value.code == "NNA0402"


def test_a_change_whose_restarts_cannot_be_counted_is_undone() -> None:
    node = a_node()
    full_disk(node, after=0)
    with pytest.raises(ApplyError, match="NNA0427"):
        apply(node)
    assert state(node) == OLD_STATE


def test_a_restart_that_is_killed_in_the_middle_was_counted() -> None:
    node = a_node()
    node.faults.at(2, Crash(), method="job")  # the first starts the snapshotter
    with pytest.raises(Crash):
        apply(node)
    node.faults.clear()
    assert [one.unit for one in gate.history(node.files)] == [UNIT]
    finish(node)


def test_restarts_of_before_the_last_hour_leave_the_account() -> None:
    node = FakeNode()
    for _ in range(5):
        gate.note_restart(node.ports, UNIT)
        node.clock.advance(1000)
    assert len(gate.history(node.files)) == 4
    node.clock.reboot()
    gate.note_restart(node.ports, UNIT)
    assert len(gate.history(node.files)) == 4


def test_a_damaged_account_keeps_nobody_from_mending_the_node() -> None:
    node = FakeNode()
    for content in (b"", b"[]", b'{"restarts": [{"unit": 1}]}'):
        node.files.put(paths.RESTARTS, content)
        assert gate.history(node.files) == ()
        gate.note_restart(node.ports, UNIT)
        assert len(gate.history(node.files)) == 1


def test_a_plan_waits_for_the_unit_that_has_to_wait_longest() -> None:
    node = FakeNode()
    policy = RestartBudget(1, 0.0)
    assert gate.held(node.ports, RESTART, policy) is None
    gate.note_restart(node.ports, UNIT)
    node.clock.advance(100)
    held = gate.held(node.ports, RESTART, policy)
    assert held is not None
    assert held.seconds == pytest.approx(HOUR - 100)
    assert gate.held(node.ports, START, policy) is None
    with pytest.raises(ApplyError) as caught:
        gate.refuse(held)
    assert (caught.value.code, caught.value.try_) == ("NNA0415", "nydus-agent apply --now")
    assert "58 min 21 s" in caught.value.what
