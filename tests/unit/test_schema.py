"""docs/schema describes what the program really prints: each kind, in as many states of a node as there are
here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from agent import API_VERSION
from agent.daemon import publish
from agent.proof import proofs
from tests.lint.source import ROOT, modules
from tests.unit.proved_node import proved
from tests.unit.published import PublishedNode, Run
from tests.unit.test_cli_why import outage
from tests.unit.views import DOWN, VIEW

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "docs/schema").glob("*.json"))}
_REGISTRY: Registry[Any] = Registry().with_resources(
    (f"{name}.json", Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)


def complaints(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a document of its kind."""
    validator = Draft202012Validator(SCHEMAS[document["kind"]], registry=_REGISTRY)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def printed(root: Path, *argv: str, uid: int = 0) -> dict[str, Any]:
    return Run(root, "--format", "json", *argv, uid=uid).json


def well(_node: PublishedNode) -> None:
    """As it is."""


def pinned(node: PublishedNode) -> None:
    node.status["pin"] = {"route": "origin", "until": node.now + 600, "reason": "", "by": "mo"}


def wrong_check(node: PublishedNode) -> None:
    node.fail(6, detail="x", code="NNA0607", cause="y", evidence=["z"])
    node.proof["drift"] = ["a file was edited"]


def gone(node: PublishedNode) -> None:
    node.kill()


def nothing(node: PublishedNode) -> None:
    node.kill()
    node.remove(
        "run/nydus-agent/status.json", "var/lib/nydus-agent/effective.json", "var/lib/nydus-agent/proof.json"
    )


def rubbish(node: PublishedNode) -> None:
    for name in ("run/nydus-agent/status.json", "var/lib/nydus-agent/proof.json"):
        (node.root / name).write_text("not JSON")


def strange(node: PublishedNode) -> None:
    """An unprivileged user may write what it likes."""
    node.put(
        "run/nydus-agent/status.json",
        {"pid": "x", "at": node.now, "health_state": 7, "history": [{"at": None}, 3]},
    )


@pytest.mark.parametrize("state", [well, outage, pinned, wrong_check, gone, nothing, rubbish, strange])
@pytest.mark.parametrize("argv", [("status",), ("events",), ("status", "--why"), ("version",)], ids=" ".join)
def test_what_answers_without_root_is_as_described_in_every_state(
    tmp_path: Path, state: Callable[[PublishedNode], None], argv: tuple[str, ...]
) -> None:
    node = PublishedNode(tmp_path)
    state(node)
    if state in (pinned, wrong_check):
        node.write()
    assert complaints(printed(node.root, *argv, uid=65534)) == []


def test_the_schemas_of_documents_are_those_that_their_dataclasses_give(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "packaging/make-schemas.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {"documents.json", "DaemonStatus.json"} <= made.keys()
    for name, text in made.items():
        assert (ROOT / "docs/schema" / name).read_text() == text, "run packaging/make-schemas.py"


def test_what_the_daemon_publishes_is_as_described() -> None:
    for view in (VIEW, DOWN):
        assert complaints(json.loads(publish.Encoder().encode(view))) == []


def test_the_check_of_a_configuration_and_every_error_are_as_described(tmp_path: Path) -> None:
    assert complaints(printed(tmp_path, "check")) == []
    (tmp_path / "agent.toml").write_text("[mirror]\nurll = 1\n")
    for argv in (("check",), ("frobnicate",), ("drill", "mirror-down", "--for", "1s")):
        assert complaints(printed(tmp_path, *argv)) == []


def test_a_proof_is_as_described() -> None:
    document = {"apiVersion": API_VERSION, "kind": "Proof", **proofs.body(proved().proof())}
    assert complaints(json.loads(json.dumps(document))) == []


def test_a_document_that_is_not_as_described_is_noticed(tmp_path: Path) -> None:
    node = PublishedNode(tmp_path)
    document = printed(node.root, "status", "--why")
    del document["headline"]
    document["route"] = "moon"
    assert len(complaints(document)) == 2


def test_every_kind_that_a_verb_prints_has_a_schema() -> None:
    kinds = set()
    for module in modules("agent"):
        text = (ROOT / module.path).read_text()
        kinds |= {part.partition('"')[0] for part in text.replace("\n", " ").split('emit( "')[1:]}
        kinds |= {part.partition('"')[0] for part in text.split('emit("')[1:]}
        kinds |= {part.lstrip().lstrip('"').partition('"')[0] for part in text.split("emit(\n")[1:]}
    assert {"Status", "Drill", "RoutePin", "ConfigCheck"} <= kinds
    assert kinds <= set(SCHEMAS)
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
