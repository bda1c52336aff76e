"""`nydus-agent repair` as it answers: what it did, what it left, with what to try, and the exit code."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from agent import paths
from agent.apply.gate import Urgency
from agent.commands import repair
from agent.commands.context import Context
from agent.console import Console, Format
from agent.errors import Exit, FileError
from tests.unit.plan_node import CONTAINERD_CONFIG
from tests.unit.proved_node import ProvedNode, proved
from tests.unit.test_schema import complaints

TEMPLATE = paths.NYDUSD_TEMPLATE
HIDDEN = f"{paths.CERTS_D}/plain.example:5000/hosts.toml"


@pytest.fixture
def node() -> ProvedNode:
    return proved()


class Answer:
    """One run of the verb."""

    def __init__(
        self, node: ProvedNode, form: Format = Format.TEXT, *, urgency: Urgency | None = None
    ) -> None:
        out, err = io.StringIO(), io.StringIO()
        context = Context(Console(out, err, form), uid=0)
        ports = node.node.ports
        if urgency is None:
            self.exit = repair.show(context, node.config, ports)
        else:
            self.exit = repair.mend(context, node.config, ports, urgency)
        self.text, self.beside = out.getvalue(), err.getvalue()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


def contradict(node: ProvedNode) -> None:
    files = node.node.files
    content = files.files[CONTAINERD_CONFIG].content
    files.put(CONTAINERD_CONFIG, content.replace(b'snapshotter = "nydus"', b'snapshotter = "overlayfs"'))


def test_a_dry_run_shows_the_plan_as_diffs_and_touches_nothing(node: ProvedNode) -> None:
    node.node.files.put(TEMPLATE, b"{}\n")
    before = node.node.files.snapshot()
    answer = Answer(node)
    assert answer.exit is Exit.NOT_AS_WANTED
    assert f"file-edited         {TEMPLATE} was edited after it was applied" in answer.text
    assert f"+++ {TEMPLATE}" in answer.text
    assert node.node.files.snapshot() == before
    assert complaints(Answer(node, Format.JSON).json) == []


def test_what_was_put_back_is_told_and_what_is_left_is_named_with_the_command_to_try(
    node: ProvedNode,
) -> None:
    node.node.files.put(TEMPLATE, b"{}\n")
    answer = Answer(node, urgency=Urgency.BY_HAND)
    assert answer.exit is Exit.OK
    assert "put back what was applied" in answer.text
    assert "nothing is left: the node is as it was applied" in answer.text
    contradict(node)
    answer = Answer(node, urgency=Urgency.BY_HAND)
    assert answer.exit is Exit.NOT_AS_WANTED
    assert f"keys-contradicted   {CONTAINERD_CONFIG} says otherwise" in answer.text
    assert 'snapshotter = "overlayfs", applied was "nydus"' in answer.text
    assert "try:  sudo nydus-agent plan" in answer.text
    node.node.files.put(TEMPLATE, b"{}\n")
    document = Answer(node, Format.JSON, urgency=Urgency.BY_HAND).json
    assert complaints(document) == []
    assert document["changed"] is True
    assert {one["kind"] for one in document["found"]} == {"keys-contradicted", "file-edited"}
    assert [one["kind"] for one in document["left"]] == ["keys-contradicted"]
    assert document["proof"]["ok"] is True


def test_by_itself_it_says_what_it_does_not_put_back_again(node: ProvedNode) -> None:
    for _ in range(2):
        node.node.files.put(TEMPLATE, b"{}\n")
        answer = Answer(node, urgency=Urgency.BY_ITSELF)
    assert answer.exit is Exit.NOT_AS_WANTED
    assert f"{TEMPLATE} is not put back now" in answer.beside


def test_a_node_that_is_as_it_was_applied_is_fine(node: ProvedNode) -> None:
    assert Answer(node).exit is Exit.OK
    assert Answer(node, urgency=Urgency.BY_HAND).exit is Exit.OK


@pytest.mark.parametrize("urgency", [None, Urgency.BY_HAND])
def test_what_could_not_be_looked_at_is_listed_and_the_node_is_not_called_as_it_was_applied(
    node: ProvedNode, urgency: Urgency | None
) -> None:
    node.node.files.unreadable[TEMPLATE] = FileError(
        "NNA0422", f"cannot read {TEMPLATE}", cause="Permission denied"
    )
    answer = Answer(node, urgency=urgency)
    assert answer.exit is Exit.UNKNOWN
    told = f"{TEMPLATE} could not be looked at: Permission denied"
    assert Answer(node, Format.JSON, urgency=urgency).json["unseen"] == [told]
    assert f"unseen              {told}" in answer.text
    assert "as it was applied" not in answer.text


def test_a_machine_reads_what_could_not_be_looked_at_after_the_repair_as_a_person_does(
    node: ProvedNode,
) -> None:
    def hide(_name: str, _verb: str) -> None:
        node.node.files.unreadable[HIDDEN] = FileError(
            "NNA0422", f"cannot read {HIDDEN}", cause="Permission denied"
        )

    node.node.files.put(TEMPLATE, b"{}\n")
    node.node.units.on_job.append(hide)
    answer = Answer(node, Format.JSON, urgency=Urgency.BY_HAND)
    assert answer.json["changed"] is True
    assert answer.json["unseen"] == [f"{HIDDEN} could not be looked at: Permission denied"]
    assert complaints(answer.json) == []
    assert answer.exit is Exit.UNKNOWN
