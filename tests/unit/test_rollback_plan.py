"""The plan back, file by file: whose a file is decides what becomes of others' edits, and secrets keep their
rights.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import Config
from agent.errors import PlanError
from agent.node.observe import observe
from agent.plan.diff import plan as plan_of
from agent.plan.rollback import Touched, rollback, same
from agent.steps import CheckContainerdConfig, Plan, RemoveFile, UnitStep, WriteFile
from tests.fakes.node import FakeNode
from tests.unit.plan_node import CONTAINERD_CONFIG, carry_out, look, node

DROP_IN = "/etc/containerd/conf.d/zz-nydus-agent.toml"
MARK = b"# Managed by nydus-agent: do not edit\n"
IMPORTS = b'imports = ["/etc/containerd/conf.d/*.toml"]\n'
OLD, NEW = MARK + b"version = 2\n", MARK + b"version = 2\n# newer\n"


@pytest.fixture
def made() -> FakeNode:
    """Our configuration in force, and a drop-in that a first generation wrote for root alone and a second for
    all.
    """
    found = node("0.16.1")
    carry_out(found, plan_of(Config(), look(found, Config())))
    found.files.put(DROP_IN, NEW, mode=0o644)
    found.files.put(CONTAINERD_CONFIG, IMPORTS + found.files.files[CONTAINERD_CONFIG].content)
    return found


def touched(**values: object) -> Touched:
    touched = Touched(DROP_IN, ((None, OLD), (OLD, NEW)), kept=1, mode=0o600)
    # A test names the fields.
    return replace(touched, **values)  # type: ignore[arg-type]


def back(made: FakeNode, *files: Touched) -> Plan:
    facts = observe(Config(), made.ports, extra_paths=tuple(one.path for one in files))
    return rollback(Config(), facts, files)


def test_a_copy_of_others_secrets_gets_the_rights_that_it_had(made: FakeNode) -> None:
    carry_out(made, back(made, touched()))
    assert (made.files.files[DROP_IN].content, made.files.files[DROP_IN].mode) == (OLD, 0o600)


def test_it_gets_them_too_where_the_file_was_removed_meanwhile(made: FakeNode) -> None:
    made.files.drop(DROP_IN)
    found = back(made, touched())
    carry_out(made, found)
    assert made.files.files[DROP_IN].mode == 0o600
    assert found.warnings == (f"{DROP_IN} was removed since; it is put back",)


def test_containerd_checks_its_files_before_they_go_live_and_restarts_on_them(made: FakeNode) -> None:
    made.files.put(CONTAINERD_CONFIG, made.files.files[CONTAINERD_CONFIG].content + b"# ours\n")
    now = made.files.files[CONTAINERD_CONFIG].content
    then = now.removesuffix(b"# ours\n")
    steps = back(made, touched(), Touched(CONTAINERD_CONFIG, ((then, then), (then, now)), kept=1)).steps
    kinds = [
        type(step) for step in steps if not isinstance(step, UnitStep) or step.unit == "containerd.service"
    ]
    assert kinds.index(CheckContainerdConfig) < kinds.index(WriteFile) < kinds.index(UnitStep)


def test_an_edit_of_our_own_file_is_replaced_and_told(made: FakeNode) -> None:
    made.files.put(DROP_IN, NEW + b"# by hand\n")
    found = back(made, touched())
    carry_out(made, found)
    assert made.files.files[DROP_IN].content == OLD
    assert "the edit is replaced, and the new generation's record keeps it" in found.warnings[0]


def test_a_file_that_somebody_put_in_the_place_of_ours_stays(made: FakeNode) -> None:
    made.files.put(DROP_IN, b"version = 2\n")
    found = back(made, touched())
    assert found.empty
    assert "left alone" in found.warnings[0]


def test_what_was_not_there_then_goes(made: FakeNode) -> None:
    steps = back(made, Touched(DROP_IN, ((None, NEW),), kept=0)).steps
    assert [step.path for step in steps if isinstance(step, RemoveFile)] == [DROP_IN]


def test_a_list_to_which_others_added_is_left_to_them_and_named(made: FakeNode) -> None:
    ours = made.files.files[CONTAINERD_CONFIG].content
    then = ours.removeprefix(IMPORTS)
    made.files.put(CONTAINERD_CONFIG, ours.replace(b'*.toml"]', b'*.toml", "/etc/theirs.toml"]'))
    found = back(made, Touched(CONTAINERD_CONFIG, ((then, then), (then, ours)), kept=1))
    assert found.empty
    assert "others gave it another value: imports" in found.warnings[0]


def test_an_edit_that_makes_the_way_back_unsafe_is_no_bug_of_ours(made: FakeNode) -> None:
    """The root file does not import our file any more, so containerd would not be shown what goes live."""
    made.files.put(CONTAINERD_CONFIG, made.files.files[CONTAINERD_CONFIG].content.removeprefix(IMPORTS))
    made.files.put(DROP_IN, NEW + b"# by hand\n")
    with pytest.raises(PlanError) as caught:
        back(made, touched())
    assert caught.value.code == "NNA0313"


def test_states_are_the_same_where_no_change_of_ours_lies_between() -> None:
    assert same((touched(kept=2),))
    assert not same((touched(),))
    assert same((touched(changes=((None, OLD), (OLD, NEW), (NEW, OLD))),))
    assert touched().unbroken
    assert not touched(changes=((None, OLD), (OLD + b"x", NEW))).unbroken
