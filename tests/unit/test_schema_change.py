"""docs/schema describes what the verbs that change a node print, whatever came of the change."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.apply import remove, rollback
from agent.apply.recover import Recovered
from agent.commands import apply as apply_verb
from agent.commands import remove as remove_verb
from agent.commands.context import Context
from agent.commands.internal import recover as recover_verb
from agent.commands.plan import plan_body
from agent.config.model import LogLevel
from agent.console import Console, Format
from tests.unit.proved_node import CONFIG, ProvedNode, quiet
from tests.unit.test_schema import complaints, printed

LOUD = replace(CONFIG, snapshotter=replace(CONFIG.snapshotter, log_level=LogLevel.DEBUG))


def told(tell: Callable[[Context], object]) -> dict[str, Any]:
    """The JSON document that a verb prints."""
    out = io.StringIO()
    tell(Context(Console(out, io.StringIO(), Format.JSON), uid=0))
    document: dict[str, Any] = json.loads(out.getvalue())
    assert complaints(document) == []
    return document


@pytest.fixture
def node() -> ProvedNode:
    made = ProvedNode()
    for program in ("nsenter", "kill", "rm"):
        made.node.processes.on(program)
    made.apply()
    made.config = LOUD
    return made


def test_a_plan(node: ProvedNode) -> None:
    facts, _then, plan = rollback.look_back(LOUD, node.node.ports, rollback.choose(node.node.files, 1))
    assert facts is not None
    document = told(lambda context: context.console.emit("Plan", plan_body(plan, None)))
    assert document["changes"] is False


def test_an_apply_and_one_that_had_nothing_to_do(node: ProvedNode) -> None:
    first, second = node.apply(), node.apply()
    document = told(lambda context: apply_verb.tell(first, node.node.ports, context, "ApplyResult"))
    assert document["changed"] is True
    assert document["proof"]["ok"] is True
    document = told(lambda context: apply_verb.tell(second, node.node.ports, context, "ApplyResult"))
    assert (document["changed"], document["proof"]) == (False, None)
    assert complaints({**document, "plan": None}) != []


def test_a_rollback(node: ProvedNode) -> None:
    node.apply()
    outcome = rollback.roll_back(LOUD, node.node.ports, quiet(), lambda _: None, to=1)
    document = told(
        lambda context: apply_verb.tell(
            outcome, node.node.ports, context, "RollbackResult", to=1, taken_back=None
        )
    )
    assert document["to"] == 1
    assert document["proof"]["pending"] != []


def test_a_removal_and_one_that_had_nothing_to_do(node: ProvedNode) -> None:
    removed = remove.remove_setup(CONFIG, node.node.ports, quiet(), force=False)
    assert told(lambda context: remove_verb.tell(removed, context))["changed"] is True
    assert told(lambda context: remove_verb.tell(None, context))["changed"] is False


@pytest.mark.parametrize(
    "done", [None, Recovered("apply", 0.0, finished=True), Recovered("apply", 0.0, False, ("x",))]
)
def test_a_recovery(done: Recovered | None) -> None:
    assert told(lambda context: recover_verb.tell(done, context))["recovered"] is (done is not None)


def on_disk(node: ProvedNode, root: Path) -> Path:
    """The node's files below a directory."""
    for path, file in node.node.files.files.items():
        if path.startswith("/var/lib/nydus-agent"):
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
    return root


def test_the_history_names_what_each_generation_changed_and_which_is_in_force(
    node: ProvedNode, tmp_path: Path
) -> None:
    node.apply()
    rollback.roll_back(LOUD, node.node.ports, quiet(), lambda _: None, to=1)
    document = printed(on_disk(node, tmp_path), "generations")
    assert complaints(document) == []
    first, second, third = document["generations"]
    assert (first["verb"], second["verb"], third["verb"], third["to"]) == ("apply", "apply", "rollback", 1)
    assert [one["in_force"] for one in (first, second, third)] == [False, False, True]
    assert {"path": "/etc/nydus/snapshotter.toml", "change": "created"} in first["files"]
    assert second["files"] == third["files"]
    assert "restart nydus-snapshotter.service" in third["units"]
    assert document["hold"]


def test_the_history_as_diffs_hides_secrets_and_needs_root(node: ProvedNode, tmp_path: Path) -> None:
    path = CONFIG.containerd.config
    secret = b'\n[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]\npassword = "hunter2"\n'
    node.node.files.put(path, node.node.files.files[path].content + secret)
    remove.remove_setup(LOUD, node.node.ports, quiet(), force=False)
    document = printed(on_disk(node, tmp_path), "generations", "--diff", "2")
    assert complaints(document) == []
    assert any("hidden" in one["diff"] for one in document["files"])
    assert "hunter2" not in json.dumps(document)
    assert printed(tmp_path, "generations", "--diff", "7")["code"] == "NNA0333"
    assert printed(tmp_path, "generations", uid=65534)["code"] == "NNA1001"


def test_what_begins_by_itself(node: ProvedNode, tmp_path: Path) -> None:
    assert printed(tmp_path, "due", "boot")["due"] is False
    on_disk(node, tmp_path)
    document = printed(tmp_path, "due", "boot")
    assert complaints(document) == []
    assert document["due"] is True


def test_a_rollback_is_not_undone_by_a_reboot_or_an_installation(node: ProvedNode, tmp_path: Path) -> None:
    node.apply()
    rollback.roll_back(LOUD, node.node.ports, quiet(), lambda _: None, to=1)
    on_disk(node, tmp_path)
    (tmp_path / "agent.toml").write_text("[apply]\non_install = true\n")
    for occasion in ("boot", "install"):
        document = printed(tmp_path, "due", occasion)
        assert document["due"] is False
        assert "rollback to 1" in document["why"]
