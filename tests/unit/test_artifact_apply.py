"""New programs are a change like any other: proved, or taken back; and `current` says what is in force."""

from __future__ import annotations

import dataclasses

import pytest

from agent.apply import change, drift, expected, generations, rollback
from agent.apply.gate import Urgency
from agent.config.model import ArtifactsConfig, Config
from agent.errors import ApplyError, PlanError
from agent.plan.drift import Kind
from tests.fakes.store import FakeStore
from tests.unit.artifact_node import STORE, install, store
from tests.unit.artifacts import elf
from tests.unit.proved_node import CONFIG, ProvedNode, quiet

WANTED = dataclasses.replace(CONFIG, artifacts=ArtifactsConfig(nydus="current", snapshotter="current"))


class Node(ProvedNode):
    """A node whose nydus programs are those of a set."""

    def __init__(self, config: Config = WANTED) -> None:
        super().__init__(config)
        self.first = install(self.node)

    @property
    def store(self) -> FakeStore:
        return store(self.node)

    @property
    def current(self) -> str:
        found = self.store.current()
        return found.id if found is not None else ""

    def rendered(self) -> str:
        return self.node.files.files["/etc/nydus/snapshotter.toml"].content.decode()


@pytest.fixture
def applied() -> Node:
    made = Node()
    made.apply()
    return made


def test_a_generation_records_the_set_that_it_was_made_with(applied: Node) -> None:
    last = generations.applied(applied.node.files)
    assert last is not None
    assert last.config is not None
    assert last.config["artifacts"] == {"nydus": applied.first.id, "snapshotter": applied.first.id, "directory": STORE}


def test_a_second_apply_of_the_same_set_does_nothing(applied: Node) -> None:
    before = applied.node.files.inodes()
    assert applied.apply().result.generation is None
    assert applied.node.files.inodes() == before


def test_a_set_that_proves_itself_stays_current(applied: Node) -> None:
    new = install(applied.node, nydus="v2.4.5")
    outcome = applied.apply()
    assert outcome.result.generation == 2
    assert applied.current == new.id
    assert new.directory in applied.rendered()


def test_a_pinned_version_becomes_current_when_it_is_applied() -> None:
    made = Node(dataclasses.replace(CONFIG, artifacts=ArtifactsConfig(nydus="2.4.3", snapshotter="0.16.1")))
    old = install(made.node, nydus="v2.4.3")
    made.store.switch(made.first.id)
    made.apply()
    assert made.current == old.id


def test_a_set_that_fails_its_proof_is_taken_back_with_current(applied: Node) -> None:
    before = applied.rendered()
    install(applied.node, nydus="v2.4.5")
    applied.node.snapshotter.answering = set()
    applied.node.units.on_job.append(lambda _name, _verb: fail_while_new(applied, before))
    with pytest.raises(ApplyError) as error:
        applied.apply()
    assert error.value.code == "NNA0402"
    assert applied.rendered() == before
    assert applied.current == applied.first.id
    applied.node.units.on_job.pop()
    assert applied.apply().result.generation is None  # the set that failed is not tried again by itself


def test_a_nydusd_that_does_not_start_is_found_before_any_image_needs_it(applied: Node) -> None:
    before = applied.rendered()
    new = install(applied.node, nydus="v2.4.5")
    applied.node.trials.broken[f"{new.directory}/nydusd"] = "it ended with exit code 1"
    with pytest.raises(ApplyError) as error:
        applied.apply()
    assert error.value.code == "NNA0402"
    assert "[NNA0737]" in error.value.cause
    assert (applied.rendered(), applied.current) == (before, applied.first.id)
    assert applied.store.previous() is None, "nobody goes back to what has failed"


def test_nothing_is_started_for_a_change_that_brings_no_program_of_the_store(applied: Node) -> None:
    applied.node.trials.started.clear()
    applied.apply()
    change.inspect(WANTED, applied.node.ports)
    ProvedNode().apply()
    assert applied.node.trials.started == []


def fail_while_new(node: Node, before: str) -> None:
    """The snapshotter answers only with the old programs."""
    if node.rendered() != before:
        node.node.snapshotter.answering = set()


def test_artifacts_rollback_and_apply_go_back(applied: Node) -> None:
    before = applied.rendered()
    install(applied.node, nydus="v2.4.5")
    applied.apply()
    applied.store.rollback()
    assert applied.apply().result.generation == 3
    assert applied.rendered() == before


def test_rollback_of_the_node_makes_its_set_current_too(applied: Node) -> None:
    before = applied.rendered()
    install(applied.node, nydus="v2.4.5")
    applied.apply()
    rollback.roll_back(WANTED, applied.node.ports, quiet(), lambda _: None, to=None, urgency=Urgency.BY_HAND)
    assert applied.rendered() == before
    assert applied.current == applied.first.id


def test_rollback_to_a_set_that_is_gone_is_refused_before_anything_is_touched(applied: Node) -> None:
    install(applied.node, nydus="v2.4.5", snapshotter="v0.16.2")
    applied.apply()
    install(applied.node, nydus="v2.4.6", snapshotter="v0.16.2")
    applied.store.prune(0, frozenset())
    before = applied.node.files.snapshot()
    with pytest.raises(PlanError, match="no plan can be made") as error:
        rollback.roll_back(WANTED, applied.node.ports, quiet(), lambda _: None, to=1, urgency=Urgency.BY_HAND)
    assert error.value.code == "NNA0207"
    assert applied.node.files.snapshot() == before


def test_inspection_judges_by_the_set_that_was_applied_and_tells_the_new_one_as_pending(applied: Node) -> None:
    install(applied.node, nydus="v2.4.5")
    proof = change.inspect(WANTED, applied.node.ports)
    assert ("nydusd", "2.4.4") in proof.versions
    assert any("snapshotter.toml" in one for one in proof.pending)


def test_an_inspection_of_an_unchanged_node_has_nothing_pending(applied: Node) -> None:
    assert change.inspect(WANTED, applied.node.ports).pending == ()


def test_a_program_of_a_set_that_was_replaced_is_named_with_the_command_and_never_run(applied: Node) -> None:
    path = f"{applied.first.directory}/nydusd"
    files = applied.node.files
    last = generations.applied(files)
    assert last is not None
    files.drop("/var/lib/nydus-agent/expected.json")
    expected.publish(applied.node.ports, last)
    files.put(path, elf(b"evil"))
    applied.node.processes.ran.clear()
    (found,) = [
        one for one in drift.find_drift(WANTED, applied.node.ports).findings if one.kind is Kind.PROGRAM_REPLACED
    ]
    assert found.subject == path
    assert found.try_ == f"sudo nydus-agent artifacts verify {applied.first.id[:12]}"
    assert (path, "--version") not in applied.node.processes.ran
