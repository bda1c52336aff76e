"""Recovery: what was killed in the middle is undone, or finished where it had been accepted."""

from __future__ import annotations

import pytest

from agent.errors import ApplyError
from tests.fakes.faults import Crash
from tests.fakes.node import FakeNode
from tests.unit.change_stage import (
    NEW_STATE,
    OLD_STATE,
    a_node,
    apply,
    calls_of_an_apply,
    finish,
    of_the_operator,
    state,
)


@pytest.fixture
def node() -> FakeNode:
    return a_node()


@pytest.mark.parametrize("after", [False, True], ids=["before the act", "after the act"])
def test_a_killed_change_leaves_the_old_node_or_the_new_one(after: bool) -> None:
    """Kill the process at each act in turn (each journal record, each file, each job)."""
    total = len(calls_of_an_apply())
    seen = set()
    for nth in range(1, total + 1):
        node = a_node()
        node.faults.at(nth, Crash(), after=after)
        with pytest.raises(Crash):
            apply(node)
        node.faults.clear()
        outcome = finish(node)
        assert state(node) in (OLD_STATE, NEW_STATE), (
            f"mixed after a kill at call {nth}: {node.faults.calls[nth - 1]}"
        )
        assert not node.ledger.open
        if outcome is not None and outcome.finished:
            assert state(node) == NEW_STATE
        seen.add(state(node) == NEW_STATE)
    assert seen == {True, False}


def test_an_undo_that_is_killed_too_is_finished_by_the_next_run() -> None:
    first = a_node()
    first.faults.at(len(calls_of_an_apply()) - 5, Crash())
    with pytest.raises(Crash):
        apply(first)
    before = len(first.faults.calls)
    finish(first)
    for nth in range(1, len(first.faults.calls) - before + 1):
        node = a_node()
        node.faults.at(len(calls_of_an_apply()) - 5, Crash())
        with pytest.raises(Crash):
            apply(node)
        node.faults.clear()
        node.faults.at(nth, Crash())
        with pytest.raises(Crash):
            finish(node)
        node.faults.clear()
        finish(node)
        assert state(node) == OLD_STATE, nth
        assert not node.ledger.open


def test_a_power_cut_is_undone_at_boot_with_files_alone() -> None:
    for nth in range(1, len(calls_of_an_apply()) + 1):
        node = a_node()
        node.faults.at(nth, Crash())
        with pytest.raises(Crash):
            apply(node)
        node.faults.clear()
        done = len(node.faults.calls)
        outcome = finish(node, jobs=False)
        if outcome is None or not outcome.finished:
            assert of_the_operator(node) == OLD_STATE[0], nth
        assert not [call for call in node.faults.calls[done:] if call[0] in ("job", "reload", "disable")]


def test_a_torn_journal_line_is_an_act_that_never_began(node: FakeNode) -> None:
    node.faults.at(1, Crash(), method="reload")
    with pytest.raises(Crash):
        apply(node)
    node.ledger.written.append(b'{"t":"intent","n":4,"wh')
    assert finish(node) is not None
    assert state(node) == OLD_STATE


def test_a_journal_of_another_program_is_not_guessed_at(node: FakeNode) -> None:
    node.ledger.begin(b'{"t":"intent","n":0}', 0)
    with pytest.raises(ApplyError) as caught:
        finish(node)
    assert caught.value.code == "NNA0410"
    assert node.ledger.open
