"""Another version of the programs is a change like any other: proved, or taken back."""

from __future__ import annotations

import dataclasses

import pytest

from agent.apply import rollback
from agent.apply.gate import Urgency
from agent.documents.drift import Finding, Kind, Remedy
from agent.errors import ApplyError, PlanError
from agent.proof import drift, inspection
from agent.records import generations
from tests.fakes.programs import NYDUS, SNAPSHOTTER, install, purge
from tests.unit.proved_node import CONFIG, ProvedNode, quiet, with_programs


class Node(ProvedNode):
    """A node whose nydus programs are those of packages."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.first = install(self.node, NYDUS, "2.4.4")
        install(self.node, SNAPSHOTTER, "0.16.1")

    def rendered(self) -> str:
        return self.node.files.files["/etc/nydus/snapshotter.toml"].content.decode()

    def replaced(self) -> list[Finding]:
        findings = drift.find_drift(CONFIG, self.node.ports).findings
        return [one for one in findings if one.kind is Kind.PROGRAM_REPLACED]


@pytest.fixture
def applied() -> Node:
    made = Node()
    made.apply()
    return made


def test_a_generation_records_the_versions_that_it_was_made_with(applied: Node) -> None:
    last = generations.applied(applied.node.files)
    assert last is not None
    assert last.config is not None
    assert last.config["programs"] == {"nydus": "2.4.4", "snapshotter": "0.16.1"}


def test_a_second_apply_of_the_same_version_does_nothing(applied: Node) -> None:
    before = applied.node.files.inodes()
    assert applied.apply().generation is None
    assert applied.node.files.inodes() == before


def test_a_newer_version_is_taken_into_use(applied: Node) -> None:
    new = install(applied.node, NYDUS, "2.4.5")
    assert applied.apply().generation == 2
    assert new in applied.rendered()


def test_a_version_that_fails_its_proof_is_taken_back_and_tried_again(applied: Node) -> None:
    before = applied.rendered()
    install(applied.node, NYDUS, "2.4.5")
    applied.node.units.on_job.append(lambda _name, _verb: fail_while_new(applied, before))
    for _ in range(2):
        with pytest.raises(ApplyError) as error:
            applied.apply()
        assert error.value.code == "NNA0402"
        assert applied.rendered() == before
    purge(applied.node, NYDUS, "2.4.5")
    assert applied.apply().generation is None


def fail_while_new(node: Node, before: str) -> None:
    """The snapshotter answers only with the old programs."""
    if node.rendered() != before:
        node.node.snapshotter.answering = set()


def test_a_nydusd_that_does_not_start_is_found_before_any_image_needs_it(applied: Node) -> None:
    before = applied.rendered()
    new = install(applied.node, NYDUS, "2.4.5")
    applied.node.trials.broken[f"{new}/nydusd"] = "it ended with exit code 1"
    with pytest.raises(ApplyError) as error:
        applied.apply()
    assert error.value.code == "NNA0402"
    assert "[NNA0731]" in error.value.cause
    assert applied.rendered() == before


def test_nothing_is_started_for_a_change_that_brings_no_program_of_a_package(applied: Node) -> None:
    applied.node.trials.started.clear()
    applied.apply()
    inspection.inspect(CONFIG, applied.node.ports)
    ProvedNode().apply()
    assert applied.node.trials.started == []


def test_rollback_goes_back_to_the_version_of_then(applied: Node) -> None:
    before = applied.rendered()
    install(applied.node, NYDUS, "2.4.5")
    applied.apply()
    rollback.roll_back(CONFIG, applied.node.ports, quiet(), to=None, urgency=Urgency.BY_HAND)
    assert applied.rendered() == before


def test_rollback_to_a_version_that_was_purged_is_refused_before_anything_is_touched(applied: Node) -> None:
    install(applied.node, NYDUS, "2.4.5")
    applied.apply()
    purge(applied.node, NYDUS, "2.4.4")
    before = applied.node.files.snapshot()
    with pytest.raises(PlanError, match="no plan can be made") as error:
        rollback.roll_back(CONFIG, applied.node.ports, quiet(), to=1, urgency=Urgency.BY_HAND)
    assert (error.value.code, error.value.try_) == ("NNA0201", "sudo apt install nydus-programs-2.4.4")
    assert applied.node.files.snapshot() == before


def test_inspection_judges_by_the_version_that_was_applied_and_tells_the_newer_one_as_pending(
    applied: Node,
) -> None:
    install(applied.node, NYDUS, "2.4.5")
    proof = inspection.inspect(CONFIG, applied.node.ports)
    assert ("nydusd", "2.4.4") in proof.versions.items()
    assert any("snapshotter.toml" in one for one in proof.pending)


def test_an_inspection_of_an_unchanged_node_has_nothing_pending(applied: Node) -> None:
    assert inspection.inspect(CONFIG, applied.node.ports).pending == ()


def test_a_package_in_use_that_was_purged_is_told_with_what_it_means(applied: Node) -> None:
    with_programs(applied)
    assert applied.replaced() == []
    purge(applied.node, NYDUS, "2.4.4")
    found = {one.subject: one for one in applied.replaced()}
    assert set(found) == {f"{applied.first}/nydusd", f"{applied.first}/nydus-image"}
    one = found[f"{applied.first}/nydusd"]
    assert "nydus-programs-2.4.4 was removed" in one.what
    assert (one.remedy, one.try_) == (Remedy.APPLY, "sudo nydus-agent apply")
    assert not applied.plan().empty  # what is in PATH, for want of a package


def test_a_removal_names_the_packages_that_stay() -> None:
    from agent.apply import remove

    made = Node()
    made.apply()
    removed = remove.remove_setup(CONFIG, made.node.ports, quiet(), force=False)
    assert removed is not None
    assert any(
        "nydus-programs-2.4.4 nydus-snapshotter-programs-0.16.1: programs" in one for one in removed.stays
    )


def test_a_named_version_is_applied_beside_a_newer_one() -> None:
    made = Node()
    old = install(made.node, NYDUS, "2.4.3")
    programs = dataclasses.replace(CONFIG.programs, nydus="2.4.3")
    made.config = dataclasses.replace(CONFIG, programs=programs)
    made.apply()
    assert old in made.rendered()
