"""A plan in a file: carried out exactly as it was shown, or not at all, with everything that has changed
since.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent import paths
from agent.apply import change
from agent.apply.change import Outcome, Run
from agent.apply.gate import Urgency
from agent.commands import apply as apply_verb
from agent.commands import plan as plan_verb
from agent.commands.plan import plan_body
from agent.config.model import LogLevel
from agent.console import Console, Format
from agent.errors import PlanError
from agent.records import generations
from tests.unit.proved_node import CONFIG, ProvedNode, quiet
from tests.unit.test_schema import complaints

FILE = "/root/plan.json"
LOUD = replace(CONFIG, snapshotter=replace(CONFIG.snapshotter, log_level=LogLevel.DEBUG))


def write(node: ProvedNode, to: int | None = None) -> None:
    made = plan_verb.make(to, node.config, node.node.ports)
    plan_verb.write_plan(node.node.files, FILE, made)


def act(node: ProvedNode, urgency: Urgency = Urgency.BY_HAND) -> Outcome:
    return apply_verb.act(FILE, node.config, node.node.ports, Run(quiet(), lambda _: None), urgency)


def refused(node: ProvedNode) -> PlanError:
    """The refusal; nothing was touched."""
    files, calls = node.node.files.snapshot(), len(node.node.faults.calls)
    with pytest.raises(PlanError) as caught:
        act(node)
    assert node.node.files.snapshot() == files
    assert [
        call for call in node.node.faults.calls[calls:] if call[0] in ("replace", "remove", "job", "begin")
    ] == []
    return caught.value


def told(error: PlanError) -> str:
    return "\n".join((error.cause, *error.seen))


def edited(node: ProvedNode, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(node.node.files.files[FILE].content)
    edit(document)
    node.node.files.put(FILE, json.dumps(document).encode())


@pytest.fixture
def node() -> ProvedNode:
    made = ProvedNode()
    write(made)
    return made


def test_a_plan_from_a_file_is_carried_out_and_then_used_up(node: ProvedNode) -> None:
    assert node.node.files.files[FILE].mode == 0o600
    outcome = act(node)
    assert outcome.result.generation == 1
    assert outcome.proof is not None
    assert paths.SNAPSHOTTER_CONFIG in told(refused(node))


def test_a_plan_for_a_node_that_is_as_wanted_does_nothing() -> None:
    node = ProvedNode()
    node.apply()
    write(node)
    inodes = node.node.files.inodes()
    assert not act(node).result.changed
    assert node.node.files.inodes() == inodes


def test_whoever_takes_the_restarts_upon_himself_may_do_so_with_a_file_too(node: ProvedNode) -> None:
    assert act(node, Urgency.NOW).result.generation == 1


def test_the_file_is_as_described_and_holds_no_content_of_the_nodes_files(node: ProvedNode) -> None:
    auth = b'[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]\npassword = "hunter2"\n'
    node.node.files.put(CONFIG.containerd.config, b"version = 2\n" + auth)
    write(node)
    text = node.node.files.files[FILE].content.decode()
    assert complaints(json.loads(text)) == []
    assert "hunter2" not in text
    assert act(node).result.changed


def test_a_file_that_was_edited_since_is_named_and_not_overwritten(node: ProvedNode) -> None:
    path = CONFIG.containerd.config
    node.node.files.put(path, node.node.files.files[path].content + b"# by hand\n")
    error = refused(node)
    assert error.code == "NNA0341"
    assert path in error.cause
    assert error.try_ == f"nydus-agent plan --output {FILE}"


def test_everything_that_changed_is_named_at_once(node: ProvedNode) -> None:
    node.node.files.put(f"{paths.CERTS_D}/docker.io/hosts.toml", b"# theirs\n")
    node.node.processes.on(
        "/usr/local/bin/nydusd", "--version", stdout="nydusd \rVersion: \tv2.2.1\nGit Commit: \tunknown\n"
    )
    units = node.node.units.units
    units[paths.CONTAINERD_UNIT] = replace(units[paths.CONTAINERD_UNIT], active_state="failed")
    node.config = LOUD
    text = told(refused(node))
    assert f"file {paths.CERTS_D}/docker.io/hosts.toml: absent then, sha256" in text
    assert "version of nydusd: 2.2.0 then, 2.2.1 now" in text
    assert "unit containerd: loaded, active" in text
    assert "setting snapshotter.log_level: info then, debug now" in text


def test_a_choice_that_came_out_otherwise_is_another_plan(node: ProvedNode) -> None:
    node.node.fence.unavailable = "no nft here"
    assert "for what was asked of the mirror, the fence or containerd" in told(refused(node))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda one: one["made_by"].update(node="x"), "made on another node"),
        (lambda one: one["made_by"].update(agent="9.9"), "made by version 9.9"),
        (lambda one: one["made_by"].update(to=1), ""),
        (lambda one: one["steps"][0].update(diff=""), "it was edited"),
        (lambda one: one["steps"].pop(), "it was edited"),
        (lambda one: one["restarts"].clear(), "it was edited"),
        (lambda one: one["decided"]["steps"].pop(), "the steps would be others"),
        (lambda one: one["decided"].update(files=3), "are missing in it"),
        (lambda one: one["decided"]["files"].update({"/etc/shadow": "x"}), "/etc/shadow"),
    ],
)
def test_a_plan_of_another_node_or_version_or_hand_is_refused(
    node: ProvedNode, edit: Callable[[dict[str, Any]], object], says: str
) -> None:
    edited(node, edit)
    assert says in told(refused(node))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b'{"apiVersion": "nydus-agent/v1", "kind": "Proof"}',
        b'{"apiVersion": "nydus-agent/v1", "kind": "Plan", "steps": []}',
        b'{"apiVersion": "nydus-agent/v1", "kind": "Plan", "decided": {}, "made_by": {"to": "x"}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(node: ProvedNode, content: bytes) -> None:
    node.node.files.put(FILE, content)
    assert refused(node).code == "NNA0341"


def test_a_file_that_is_not_there_is_refused(node: ProvedNode) -> None:
    node.node.files.drop(FILE)
    assert refused(node).code == "NNA0341"


def test_a_rollback_can_be_planned_into_a_file_too() -> None:
    node = ProvedNode()
    node.apply()
    before = node.etc()
    node.config = LOUD
    node.apply()
    write(node, to=1)
    outcome = act(node)
    newest = generations.newest(node.node.files)
    assert newest is not None
    assert (outcome.result.generation, newest.verb, newest.to) == (3, "rollback", 1)
    assert {path: file for path, file in node.etc().items() if not path.startswith("/root")} == before


def test_a_plan_after_a_rollback_says_that_the_rollback_holds() -> None:
    node = ProvedNode()
    node.apply()
    node.config = LOUD
    node.apply()
    write(node, to=plan_verb.BEFORE)
    act(node)
    made = plan_verb.make(None, node.config, node.node.ports)
    assert "generation 3 is a rollback to 1, which holds until nydus-agent apply" in made.plan.notes
    assert not made.plan.empty
    write(node)
    assert act(node).result.generation == 4
    assert plan_verb.make(None, node.config, node.node.ports).plan.empty


def test_a_plan_is_shown_by_its_verb_as_it_is_written(node: ProvedNode) -> None:
    out = io.StringIO()
    facts, effective, plan = change.make_plan(node.config, node.node.ports)
    assert facts is not None
    Console(out, io.StringIO(), Format.JSON).emit("Plan", plan_body(plan, effective))
    shown, written = json.loads(out.getvalue()), json.loads(node.node.files.files[FILE].content)
    assert {key: written[key] for key in shown} == shown
