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
from agent.apply.change import Outcome
from agent.apply.gate import Urgency
from agent.commands import apply as apply_verb
from agent.commands import plan as plan_verb
from agent.commands.plan import plan_body
from agent.config.model import LogLevel, RestartPolicy
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
    return apply_verb.act(FILE, node.config, node.node.ports, quiet(), urgency)


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


@pytest.mark.parametrize("restart", RestartPolicy)
def test_a_plan_from_a_file_is_carried_out_and_then_used_up(restart: RestartPolicy) -> None:
    node = ProvedNode(replace(CONFIG, containerd=replace(CONFIG.containerd, restart=restart)))
    write(node)
    assert node.node.files.files[FILE].mode == 0o600
    outcome = act(node, Urgency.NOW if restart is RestartPolicy.NEVER else Urgency.BY_HAND)
    assert outcome.generation == 1
    assert outcome.proof is not None
    assert paths.SNAPSHOTTER_CONFIG in told(refused(node))


def test_the_file_is_as_described_and_holds_no_content_of_the_nodes_files(node: ProvedNode) -> None:
    auth = b'[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]\npassword = "hunter2"\n'
    node.node.files.put(CONFIG.containerd.config, b"version = 2\n" + auth)
    write(node)
    text = node.node.files.files[FILE].content.decode()
    assert complaints(json.loads(text)) == []
    made = plan_verb.make(None, node.config, node.node.ports)
    out = io.StringIO()
    Console(out, io.StringIO(), Format.JSON).emit("Plan", plan_body(made.plan, made.effective))
    shown = json.loads(out.getvalue())
    assert {key: json.loads(text)[key] for key in shown} == shown, "it is what the verb shows"
    assert "hunter2" not in text
    assert act(node).changed


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
        None, b"", b"[]", b"{", b'{"apiVersion": "nydus-agent/v1", "kind": "Proof"}',
        b'{"apiVersion": "nydus-agent/v1", "kind": "Plan", "steps": []}',
        b'{"apiVersion": "nydus-agent/v1", "kind": "Plan", "decided": {}, "made_by": {"to": "x"}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(node: ProvedNode, content: bytes | None) -> None:
    node.node.files.drop(FILE)
    if content is not None:
        node.node.files.put(FILE, content)
    error = refused(node)
    assert (error.code, error.try_) == ("NNA0341", f"nydus-agent plan --output {FILE}")


def test_a_rollback_is_planned_into_a_file_too_and_holds_until_an_apply() -> None:
    node = ProvedNode()
    node.apply()
    before = node.etc()
    node.config = LOUD
    node.apply()
    write(node, to=plan_verb.BEFORE)
    outcome = act(node)
    newest = generations.newest(node.node.files)
    assert newest is not None
    assert (outcome.generation, newest.verb, newest.to) == (3, "rollback", 1)
    assert {path: file for path, file in node.etc().items() if not path.startswith("/root")} == before
    made = plan_verb.make(None, node.config, node.node.ports)
    assert "generation 3 is a rollback to 1, which holds until nydus-agent apply" in made.plan.notes
    write(node)
    assert act(node).generation == 4
    assert plan_verb.make(None, node.config, node.node.ports).plan.empty
    write(node)
    inodes = node.node.files.inodes()
    assert not act(node).changed, "where nothing is to do, nothing is done"
    assert node.node.files.inodes() == inodes
