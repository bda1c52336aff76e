"""What people and programs are told by the verbs that change a node, and by those that tell of changes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import paths
from agent.apply import change, confirm, remove, rollback
from agent.apply.change import Outcome
from agent.apply.gate import Urgency
from agent.apply.recover import Recovered
from agent.commands import apply as apply_verb
from agent.commands import confirm as confirm_verb
from agent.commands import remove as remove_verb
from agent.commands import rollback as rollback_verb
from agent.commands.context import Context
from agent.commands.internal import after_dpkg, due
from agent.commands.internal import recover as recover_verb
from agent.commands.running import config_or_record
from agent.config.model import Config, RestartPolicy
from agent.console import Console, Format
from agent.errors import Exit, LockedError
from agent.node.machine import present
from tests.fakes.clock import FakeClock
from tests.fakes.dpkg import FakePackageManager
from tests.unit.proved_node import CONFIG, ProvedNode, quiet
from tests.unit.published import Answer, PublishedNode, Run
from tests.unit.test_schema import complaints, printed
from tests.unit.unconfirmed import LOUD, Waiting


def told(tell: Callable[[Context], object]) -> tuple[dict[str, Any], str]:
    """The JSON document and the text that a verb prints; the document is as described."""
    texts = {}
    for form in Format:
        out = io.StringIO()
        tell(Context(Console(out, io.StringIO(), form), uid=0))
        texts[form] = out.getvalue()
    found: dict[str, Any] = json.loads(texts[Format.JSON])
    assert complaints(found) == []
    return found, texts[Format.TEXT]


def on_disk(node: ProvedNode, root: Path) -> Path:
    """The node's files below a directory."""
    for path, file in node.node.files.files.items():
        if path.startswith("/var/lib/nydus-agent"):
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
    return root


@pytest.fixture
def made() -> ProvedNode:
    """A node with a generation, and a configuration that wants another one."""
    made = ProvedNode()
    made.apply()
    made.config = LOUD
    return made


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_an_apply_says_what_it_did_or_that_there_was_nothing_to_do(made: ProvedNode) -> None:
    def said(outcome: Outcome) -> tuple[dict[str, Any], str]:
        return told(lambda context: apply_verb.tell(outcome, made.node.ports, context, "ApplyResult"))

    first, second = said(made.apply()), said(made.apply())
    assert (first[0]["changed"], first[0]["proof"]["ok"]) == (True, True)
    assert first[1].startswith("generation 2 is in force (")
    assert (second[0]["changed"], second[0]["proof"]) == (False, None)
    assert second[1] == "nothing to do: the node is as wanted\n"


def test_a_rollback_says_which_state_is_back_and_what_is_pending_since(made: ProvedNode) -> None:
    made.apply()
    outcome = rollback.roll_back(LOUD, made.node.ports, quiet(), to=1)
    more = {"to": 1, "taken_back": None}
    document, _text = told(
        lambda context: apply_verb.tell(outcome, made.node.ports, context, "RollbackResult", **more)
    )
    assert document["to"] == 1
    assert document["proof"]["pending"] != []


def test_a_removal_says_what_it_did_or_that_there_was_nothing_to_do(made: ProvedNode) -> None:
    removed = remove.remove_setup(CONFIG, made.node.ports, quiet(), force=False)
    assert told(lambda context: remove_verb.tell(removed, context))[0]["changed"] is True
    assert told(lambda context: remove_verb.tell(None, context))[0]["changed"] is False


@pytest.mark.parametrize(
    ("done", "text"),
    [
        (None, "nothing to recover\n"),
        (Recovered("apply", 0.0, finished=True), "an interrupted apply had been accepted; it is finished\n"),
        (
            Recovered("apply", 0.0, False, ("x",)),
            "an interrupted apply was undone: the node is as it was before\n  put back: x\n",
        ),
    ],
)
def test_a_recovery_says_what_it_found(done: Recovered | None, text: str) -> None:
    document, said = told(lambda context: recover_verb.tell(done, context))
    assert (document["recovered"], said) == (done is not None, text)


def test_the_history_names_what_each_generation_changed_and_which_is_in_force(
    made: ProvedNode, tmp_path: Path
) -> None:
    made.apply()
    rollback.roll_back(LOUD, made.node.ports, quiet(), to=1)
    document = printed(on_disk(made, tmp_path), "generations")
    assert complaints(document) == []
    first, second, third = document["generations"]
    assert (first["verb"], second["verb"], third["verb"], third["to"]) == ("apply", "apply", "rollback", 1)
    assert [one["in_force"] for one in (first, second, third)] == [False, False, True]
    assert {"path": "/etc/nydus/snapshotter.toml", "change": "created"} in first["files"]
    assert second["files"] == third["files"]
    assert "restart nydus-snapshotter.service" in third["units"]
    assert document["hold"]


def test_the_history_as_diffs_hides_secrets_and_needs_root(made: ProvedNode, tmp_path: Path) -> None:
    path = CONFIG.containerd.config
    secret = b'\n[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]\npassword = "hunter2"\n'
    made.node.files.put(path, made.node.files.files[path].content + secret)
    remove.remove_setup(LOUD, made.node.ports, quiet(), force=False)
    document = printed(on_disk(made, tmp_path), "generations", "--diff", "2")
    assert complaints(document) == []
    assert any("hidden" in one["diff"] for one in document["files"])
    assert "hunter2" not in json.dumps(document)
    assert printed(tmp_path, "generations", "--diff", "7")["code"] == "NNA0333"
    assert printed(tmp_path, "generations", uid=65534)["code"] == "NNA1001"


@pytest.mark.parametrize(("text", "mode"), [("nonsense", 0o644), ("", 0o666)])
def test_a_configuration_that_cannot_be_used_is_told_and_what_was_applied_puts_the_node_back(
    tmp_path: Path, text: str, mode: int
) -> None:
    """k3s' socket, and that nobody but the operator restarts containerd, do not fall to the defaults."""
    k3s = replace(
        CONFIG.containerd, address="/run/k3s/containerd/containerd.sock", restart=RestartPolicy.NEVER
    )
    node = ProvedNode(replace(CONFIG, containerd=k3s))
    out, file = io.StringIO(), tmp_path / "agent.toml"
    where = (str(file), str(tmp_path / "conf.d"), str(on_disk(node, tmp_path)))
    context = Context(Console(io.StringIO(), out), 0, {}, *where)
    file.write_text(text)
    file.chmod(mode)
    assert config_or_record(context) == Config()
    with node.node.ports.ledger.lock("apply"):
        change.apply(node.config, node.node.ports, quiet(), urgency=Urgency.NOW)
    on_disk(node, tmp_path)
    assert config_or_record(context).containerd == k3s
    assert str(file) in out.getvalue()


# A change that waits for its confirmation


def test_a_change_ends_with_how_to_keep_it_and_its_confirmation_says_what_stays(waiting: Waiting) -> None:
    outcome = waiting.apply()
    waiting.node.clock.advance(20)
    document, text = told(lambda context: apply_verb.tell(outcome, waiting.ports, context, "ApplyResult"))
    assert document["unconfirmed"] == {"generation": 1, "left_s": 100}
    assert "not confirmed: it is taken back in 1 min 40 s unless you say: nydus-agent confirm\n" in text
    waiting.node.clock.advance(17)
    kept = waiting.confirm()
    document, text = told(lambda context: confirm_verb.tell(kept, context))
    assert (document["changed"], document["generation"], document["left_s"]) == (True, 1, 83)
    assert text == "generation 1 is confirmed; 1 min 23 s of 2 min were left\n"
    document, text = told(lambda context: confirm_verb.tell(waiting.confirm(), context))
    assert (document["changed"], text) == (False, "nothing waits for a confirmation\n")


def test_a_rollback_says_what_became_of_the_change_which_then_begins_by_order_only(
    waiting: Waiting, tmp_path: Path
) -> None:
    waiting.apply()
    (taken,) = waiting.pass_time()
    document, text = told(lambda context: rollback_verb.tell_taken(taken, context, waiting.ports))
    assert (document["changed"], document["generation"]) == (True, 1)
    assert text == "generation 1 was not confirmed: the node is as it was without the agent\n"
    assert told(lambda context: rollback_verb.tell_taken(None, context, waiting.ports))[0]["changed"] is False
    on_disk(waiting.made, tmp_path)
    (tmp_path / "agent.toml").write_text("[apply]\non_install = true\n")
    for occasion in ("boot", "install"):
        document = printed(tmp_path, "due", occasion)
        assert document["due"] is False
        assert "was not confirmed" in document["why"]


def test_a_rollback_that_only_shows_names_what_would_go_back(waiting: Waiting) -> None:
    def shown() -> str:
        change = confirm.waiting(waiting.ports)
        assert change is not None
        files = waiting.node.files.snapshot()
        text = told(lambda context: rollback_verb.show(context, CONFIG, waiting.ports, change))[1]
        assert waiting.node.files.snapshot() == files
        return text

    waiting.apply()
    assert f"remove {paths.SNAPSHOTTER_CONFIG}" in shown(), "before the first generation there was none"
    waiting.confirm()
    waiting.apply(LOUD)
    assert "back to generation 1" in shown()


def test_a_rollback_that_only_shows_tells_of_a_change_that_was_cut_off(waiting: Waiting) -> None:
    waiting.killed()
    change = confirm.waiting(waiting.ports)
    assert change is not None
    _document, text = told(lambda context: rollback_verb.show(context, CONFIG, waiting.ports, change))
    assert text == "the change to generation 1 did not end; it would be undone\n"


def test_a_recovery_at_boot_says_what_became_of_the_change(waiting: Waiting) -> None:
    waiting.apply()
    taken = waiting.reboot()
    document, text = told(lambda context: recover_verb.tell(None, context, taken))
    assert "not confirmed before the reboot" in document["taken_back"]
    assert text == f"{document['taken_back']}\n"


def test_the_history_marks_the_generation_that_is_not_confirmed(waiting: Waiting, tmp_path: Path) -> None:
    waiting.apply()
    document = printed(on_disk(waiting.made, tmp_path), "generations")
    assert complaints(document) == []
    assert [one["confirmed"] for one in document["generations"]] == [False]
    assert "unconfirmed, rolled back in" in Run(tmp_path, "generations").out
    (tmp_path / paths.UNCONFIRMED.lstrip("/")).unlink()
    assert printed(tmp_path, "generations")["generations"][0]["confirmed"] is True


def wait_for(node: PublishedNode, seconds: int, ago: float) -> None:
    now = present(str(node.root / "proc"))
    record = {"id": "x", "generation": 7, "seconds": seconds, "at": time.time(), "pid": 1}
    node.put(
        "var/lib/nydus-agent/unconfirmed.json", {**record, "boot": now.boot, "boottime": now.boottime - ago}
    )


def test_status_shows_without_root_when_the_change_is_rolled_back(node: PublishedNode) -> None:
    assert printed(node.root, "status")["unconfirmed"] is None
    wait_for(node, 120, 37)
    answer = Answer(node)
    assert answer.row("unconfirmed").startswith("unconfirmed generation 7 rolled back in 1 min 2")
    assert answer.code == 0
    document = printed(node.root, "status")
    assert complaints(document) == []
    assert document["unconfirmed"]["left_s"] == pytest.approx(83, abs=2)


def test_status_names_a_change_that_should_have_been_taken_back_and_was_not(node: PublishedNode) -> None:
    # What was over so long ago is written as time that it was given: this machine may have just booted.
    wait_for(node, -200, 0)
    assert "still there" not in Answer(node).text, "a rollback takes its time"
    wait_for(node, -400, 0)
    answer = Answer(node)
    assert "generation 7 was not confirmed and is still there" in answer.text
    assert "journalctl -u nydus-agent-rollback" in answer.text
    assert answer.code == Exit.NOT_AS_WANTED


# What the package's units and scripts ask: may a change begin, and has dpkg finished?


@pytest.mark.parametrize(
    ("on_install", "accepted", "begins"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_a_node_changes_by_itself_only_where_its_operator_said_so(
    on_install: bool, accepted: bool, begins: bool
) -> None:
    assert due.judge(on_install=on_install, accepted=accepted)[0] is begins


def test_an_accepted_node_is_changed_at_boot_and_a_rollback_is_not_undone(
    made: ProvedNode, tmp_path: Path
) -> None:
    assert printed(tmp_path, "due", "boot")["due"] is False
    document = printed(on_disk(made, tmp_path), "due", "boot")
    assert complaints(document) == []
    assert document["due"] is True
    made.apply()
    rollback.roll_back(LOUD, made.node.ports, quiet(), to=1)
    on_disk(made, tmp_path)
    (tmp_path / "agent.toml").write_text("[apply]\non_install = true\n")
    for occasion in ("boot", "install"):
        document = printed(tmp_path, "due", occasion)
        assert document["due"] is False
        assert "rollback to 1" in document["why"]


def test_a_change_waits_until_apt_has_finished() -> None:
    assert after_dpkg.wait(FakePackageManager(), FakeClock(), deadline_s=60) == 0
    waited = after_dpkg.wait(FakePackageManager(pid=7, looks=20), FakeClock(), deadline_s=60)
    assert waited == pytest.approx(10)


def test_an_apt_that_never_ends_is_named_and_the_node_stays_as_it_is() -> None:
    with pytest.raises(LockedError) as error:
        after_dpkg.wait(FakePackageManager(pid=4711), FakeClock(), deadline_s=60)
    assert error.value.code == "NNA0401"
    assert "process 4711" in error.value.seen[0]
    assert error.value.try_ == "systemctl start nydus-agent-apply"
