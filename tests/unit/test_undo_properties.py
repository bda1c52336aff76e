"""Undo over small worlds, by the transaction that ships: a change that fails anywhere leaves the node as it
was.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import paths
from agent.apply import change, recover
from agent.apply.execute import Progress, Stop
from agent.config.model import Config
from agent.errors import AgentError, ApplyError
from agent.plan import decide
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.steps import CheckContainerdConfig, Former, Plan
from tests.fakes.files import FakeFile
from tests.fakes.node import FakeNode
from tests.unit.plan_node import carry_out, look
from tests.unit.test_plan_properties import CONFIGS, QUICK, worlds

REFUSED = AgentError("NNA0000", "the proof failed")


def nothing(_: object) -> None:
    pass


def files(made: FakeNode) -> dict[str, FakeFile | str]:
    """All files, links and directories of others and of ours, with mode and owner; not our own records."""
    found = made.files.snapshot()
    return {
        path: what
        for path, what in found.items()
        if what is not None and not path.startswith(paths.STATE_DIR)
    }


def units(made: FakeNode) -> dict[str, tuple[bool, bool]]:
    """Of each unit that is there, whether it runs and whether it starts at boot."""
    facts = {name: made.units.get(name) for name in made.units.units}
    return {name: (fact.runs, fact.enabled) for name, fact in facts.items() if fact is not None}


def runs_or_is_enabled(made: FakeNode) -> dict[str, tuple[bool, bool]]:
    return {name: state for name, state in units(made).items() if state != (False, False)}


def read_at_start(made: FakeNode, name: str) -> dict[str, bytes]:
    """What lies on the disk of the files that a unit's program reads only when it starts."""
    of_snapshotter = (paths.SNAPSHOTTER_UNIT_FILE, paths.SNAPSHOTTER_CONFIG, paths.NYDUSD_TEMPLATE)
    found = {path: file.content for path, file in made.files.files.items()}
    if name == paths.SNAPSHOTTER_UNIT:
        return {path: content for path, content in found.items() if path in of_snapshotter}
    of_containerd = (path for path in found if path.startswith("/etc/containerd/"))
    return {path: found[path] for path in of_containerd if not path.startswith(paths.CERTS_D)}


def watch(made: FakeNode) -> dict[str, dict[str, bytes]]:
    """What each unit that runs runs with, from now on: the files as they were at its last start."""
    runs_with = {name: read_at_start(made, name) for name, (runs, _) in units(made).items() if runs}
    known = {name: fact.main_pid for name, fact in made.units.units.items()}

    def job(name: str, _verb: str) -> None:
        pid = made.units.units[name].main_pid
        if pid == 0:
            runs_with.pop(name, None)
        elif pid != known.get(name):
            runs_with[name] = read_at_start(made, name)
        known[name] = pid

    made.units.on_job.append(job)
    return runs_with


def agree(made: FakeNode, steps: Plan) -> None:
    """containerd reads each candidate as the plan means it (the contract tests ask real ones)."""
    for step in steps.steps:
        if isinstance(step, CheckContainerdConfig):
            lines = [
                f"{key} = {value if value in ('true', 'false') else repr(value)}"
                for key, value in step.expect
            ]
            made.processes.on(step.program, "--config", stdout="\n".join(lines))


def refused(made: FakeNode, wanted: Config, cut: Plan) -> list[Progress]:
    """Carry it out as the program does, with a proof that fails; the steps that were done before that."""
    done: list[Progress] = []
    effective, _ = decide.choose(wanted, look(made, wanted))
    intention = change.Intention("apply", cut, effective)
    around = change.Surroundings(nothing, done.append, Stop())
    agree(made, cut)
    with made.ledger.lock("apply"):
        recover.finish(made.ports, jobs=True, say=nothing)
        with pytest.raises(ApplyError) as caught:
            change.carry_out(made.ports, intention, lambda: REFUSED, around)
    assert caught.value.code == "NNA0402", str(caught.value)
    assert REFUSED.what in caught.value.cause, (
        "it was the proof that ended it: every step of the prefix was done"
    )
    return done


@QUICK
@given(made=worlds(), first=CONFIGS, second=CONFIGS, cut=st.integers(0, 30))
def test_any_prefix_of_a_second_change_or_a_removal_can_be_undone_to_the_last_byte(
    made: FakeNode, first: Config, second: Config, cut: int
) -> None:
    runs_with = watch(made)
    carry_out(made, plan(first, look(made, first)))
    before, ran, ran_with = files(made), runs_or_is_enabled(made), dict(runs_with)
    for whole in (plan(second, look(made, second)), removal(second, look(made, second), (), Former())):
        refused(made, second, Plan(whole.steps[:cut]))
        assert files(made) == before
        assert runs_or_is_enabled(made) == ran
        assert runs_with == ran_with
