"""A change that must be confirmed is taken back where its process is killed or stuck, or the machine switched
off.
"""

from __future__ import annotations

import pytest

from agent.apply import confirm
from agent.commands.internal.due import judge
from agent.config.model import Config
from agent.errors import ApplyError, LockedError
from tests.fakes.faults import Crash
from tests.unit.proved_node import CONFIG
from tests.unit.unconfirmed import LOUD, SECONDS, Waiting


@pytest.fixture
def first() -> Waiting:
    """A node on which nothing was applied yet."""
    return Waiting()


@pytest.fixture
def second() -> Waiting:
    """A node with an accepted generation."""
    return Waiting.with_generation()


def begun(made: str) -> tuple[Waiting, Config]:
    """The first or the second of the nodes above, and a configuration that is new to it."""
    return (Waiting(), CONFIG) if made == "first" else (Waiting.with_generation(), LOUD)


@pytest.mark.parametrize("made", ["first", "second"])
def test_a_change_that_is_killed_at_any_moment_is_undone_in_time(made: str) -> None:
    """Kill the process at each act in turn; the alarm goes off, and the node is as before."""
    total = 0
    reached = set()
    for nth in range(1, 500):
        waiting, config = begun(made)
        before = waiting.made.etc()
        calls = len(waiting.node.faults.calls)
        waiting.node.faults.at(nth, Crash())
        try:
            waiting.apply(config)
        except Crash:
            total = nth
        else:
            break
        finally:
            waiting.node.faults.clear()
        reached.add(waiting.node.faults.calls[calls + nth - 1][0])
        waiting.pass_time()
        assert waiting.made.etc() == before, f"killed at {nth}: {waiting.node.faults.calls[calls + nth - 1]}"
        assert waiting.healthy()
        assert not waiting.node.ledger.open
        assert confirm.pending(waiting.node.files) is None
        assert waiting.pass_time() == []
    assert total > 20
    assert {"set", "begin", "append", "replace", "job", "close"} <= reached


@pytest.mark.parametrize("made", ["first", "second"])
def test_a_rollback_that_is_killed_is_finished_by_the_next_try(made: str) -> None:
    for nth in range(1, 500):
        waiting, _config = begun(made)
        before = waiting.made.etc()
        waiting.apply(LOUD)
        waiting.node.clock.advance(SECONDS)
        (alarm,) = waiting.node.alarms.due()
        waiting.node.faults.at(nth, Crash())
        try:
            waiting.goes_off(alarm)
        except Crash:
            waiting.node.faults.clear()
            waiting.goes_off(alarm)
        else:
            assert nth > 20
            break
        assert waiting.made.etc() == before, nth
        assert waiting.healthy()
        assert confirm.pending(waiting.node.files) is None
    else:
        pytest.fail("the rollback never came to its end")


@pytest.mark.parametrize("made", ["first", "second"])
def test_a_reboot_is_no_confirmation(made: str, request: pytest.FixtureRequest) -> None:
    waiting: Waiting = request.getfixturevalue(made)
    before = waiting.made.etc()
    waiting.apply(LOUD)
    taken = waiting.reboot()
    assert taken is not None
    assert "was not confirmed before the reboot" in taken.why
    assert waiting.made.etc() == before
    assert waiting.healthy()
    assert confirm.pending(waiting.node.files) is None
    hold = confirm.hold(waiting.node.files)
    assert "not confirmed" in hold
    assert judge(on_install=True, accepted=True, hold=hold)[0] is False, "the boot does not begin it anew"


@pytest.mark.parametrize("made", ["first", "second"])
def test_a_power_cut_at_any_moment_of_a_change_that_waits_leaves_the_node_as_before(made: str) -> None:
    for nth in range(1, 500):
        waiting, config = begun(made)
        before = waiting.made.etc()
        waiting.node.faults.at(nth, Crash())
        try:
            waiting.apply(config)
        except Crash:
            waiting.node.faults.clear()
        else:
            break
        waiting.reboot()
        assert waiting.made.etc() == before, nth
        assert waiting.healthy()
        assert confirm.pending(waiting.node.files) is None


def stuck(waiting: Waiting, *, obeys: bool) -> None:
    """The change is under way when its time is over, in a process that was stopped."""
    waiting.killed()
    ledger = waiting.node.ledger
    change = confirm.pending(waiting.node.files)
    assert change is not None
    ledger.held, ledger.holding = "apply", change.pid

    def told(kill: bool) -> None:
        if obeys or kill:
            ledger.held, ledger.holding = "", 0

    ledger.on_end = told


@pytest.mark.parametrize(("obeys", "signals"), [(True, ["term"]), (False, ["term", "kill"])])
def test_a_change_that_is_stuck_when_its_time_is_over_is_ended(
    first: Waiting, obeys: bool, signals: list[str]
) -> None:
    stuck(first, obeys=obeys)
    first.pass_time()
    assert first.node.ledger.signals == signals
    assert first.made.etc() == first.made.before
    assert confirm.pending(first.node.files) is None


def test_others_who_hold_the_lock_are_not_ended_but_waited_for(first: Waiting) -> None:
    first.apply()
    first.node.ledger.held, first.node.ledger.holding = "drill", 99
    with pytest.raises(LockedError):
        first.pass_time()
    assert first.node.ledger.signals == []
    assert confirm.pending(first.node.files) is not None, "the next try takes it back"


def test_a_change_that_was_cut_off_cannot_be_confirmed(first: Waiting) -> None:
    first.killed()
    with pytest.raises(ApplyError) as caught:
        first.confirm()
    assert (caught.value.code, caught.value.try_) == ("NNA0418", "nydus-agent rollback")
    first.pass_time()
    assert first.made.etc() == first.made.before
