"""Rollback over small worlds: whatever was applied in whatever order, each state can be gone back to,
safely.
"""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agent import paths
from agent.apply import rollback
from agent.config.accepted import record
from agent.config.model import Config
from agent.plan import decide, invariants
from agent.plan.diff import plan
from agent.records import generations, journal
from agent.records.generations import DoneStep, Generation
from agent.steps import Plan, RemoveFile, WriteFile
from tests.fakes.node import FakeNode
from tests.unit.plan_node import CONTAINERD_CONFIG, carry_out, look
from tests.unit.test_plan_properties import CONFIGS, meaning, worlds

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def files(made: FakeNode) -> dict[str, bytes]:
    """The node's files, without our records."""
    return {
        path: file.content for path, file in made.files.files.items() if not path.startswith(paths.STATE_DIR)
    }


def accept(made: FakeNode, done: Plan, wanted: Config, verb: str = "apply", to: int | None = None) -> None:
    """Carry a plan out and record it as the transaction does, without its journal and its proof."""
    last = generations.newest(made.files)
    number = last.number + 1 if last is not None else 1
    backs = []
    for step in done.steps:
        if isinstance(step, WriteFile):
            backs.append(
                journal.PutBack(
                    step.path, step.content_before, step.content, step.mode_before, step.uid, step.gid
                )
            )
        elif isinstance(step, RemoveFile):
            backs.append(
                journal.PutBack(step.path, step.content_before, None, step.mode_before, step.uid, step.gid)
            )
    carry_out(made, done)
    effective, _ = decide.choose(wanted, look(made, wanted))
    steps = tuple(DoneStep("", back) for back in backs)
    generations.save(
        made.files, Generation(number, str(number), 0.0, verb, steps, effective, to=to, config=record(wanted))
    )


def apply(made: FakeNode, wanted: Config) -> Plan:
    facts = look(made, wanted)
    found = plan(wanted, facts)
    accept(made, found, wanted)
    return found


def roll_back(made: FakeNode, wanted: Config, to: int) -> Plan:
    target = rollback.choose(made.files, to)
    then, facts, found = rollback.look_back(wanted, made.ports, target)
    assert invariants.violations(found, facts, then.containerd.config) == ()
    accept(made, found, then, "rollback", target.state)
    return found


@QUICK
@given(made=worlds(), configs=st.lists(CONFIGS, min_size=2, max_size=4), data=st.data())
def test_every_state_that_was_accepted_comes_back_byte_for_byte(
    made: FakeNode, configs: list[Config], data: st.DataObject
) -> None:
    states = {}
    for number, wanted in enumerate(configs, 1):
        apply(made, wanted)
        states[number] = files(made)
    for _ in range(3):
        newest = generations.newest(made.files)
        assert newest is not None
        to = data.draw(st.integers(1, newest.number))
        roll_back(made, configs[-1], to)
        states[newest.number + 1] = states[to]
        assert files(made) == states[to]


@QUICK
@given(made=worlds(), first=CONFIGS, second=CONFIGS)
def test_apply_after_a_rollback_returns_to_what_the_configuration_wants(
    made: FakeNode, first: Config, second: Config
) -> None:
    apply(made, first)
    apply(made, second)
    wanted = files(made)
    roll_back(made, second, 1)
    assert roll_back(made, second, 1).steps == ()
    apply(made, second)
    assert files(made) == wanted
    assert plan(second, look(made, second)).steps == ()


@QUICK
@given(made=worlds(), first=CONFIGS, second=CONFIGS, cut=st.integers(0, 20))
def test_a_rollback_that_was_cut_anywhere_is_finished_by_the_next(
    made: FakeNode, first: Config, second: Config, cut: int
) -> None:
    apply(made, first)
    before = files(made)
    apply(made, second)
    _then, _facts, found = rollback.look_back(second, made.ports, rollback.choose(made.files, 1))
    carry_out(made, found.steps[:cut])
    roll_back(made, second, 1)
    assert files(made) == before
    assert made.units.units[paths.SNAPSHOTTER_UNIT].active_state == "active"


@QUICK
@given(made=worlds(), first=CONFIGS, second=CONFIGS)
def test_a_table_that_others_added_meanwhile_survives_and_ours_still_goes_back(
    made: FakeNode, first: Config, second: Config
) -> None:
    apply(made, first)
    then = made.files.files[CONTAINERD_CONFIG].content
    apply(made, second)
    now = made.files.files[CONTAINERD_CONFIG].content
    assume(b"[metrics]" not in now)
    theirs = b'\n[metrics]\naddress = "127.0.0.1:1338"\n'
    made.files.put(CONTAINERD_CONFIG, now + theirs)
    roll_back(made, second, 1)
    assert meaning(made.files.files[CONTAINERD_CONFIG].content) == meaning(then + theirs)
