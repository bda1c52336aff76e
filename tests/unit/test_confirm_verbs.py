"""What people and programs are told of a change that waits for its confirmation."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import paths
from agent.apply import confirm
from agent.commands import apply as apply_verb
from agent.commands import confirm as confirm_verb
from agent.commands import rollback as rollback_verb
from agent.commands.context import Context
from agent.commands.internal import recover as recover_verb
from agent.console import Console, Format
from agent.errors import Exit
from agent.node.machine import present
from tests.unit.published import Answer, PublishedNode, Run
from tests.unit.test_schema import complaints, printed
from tests.unit.test_schema_change import on_disk
from tests.unit.unconfirmed import LOUD, Waiting


def told(tell: Callable[[Context], object]) -> tuple[dict[str, Any], str]:
    """The JSON document and the text that a verb prints."""
    texts = []
    for form in Format:
        out = io.StringIO()
        tell(Context(Console(out, io.StringIO(), form), uid=0))
        texts.append(out.getvalue())
    text, document = sorted(texts, key=lambda one: one.startswith("{"))
    found: dict[str, Any] = json.loads(document)
    assert complaints(found) == []
    return found, text


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_the_change_itself_ends_with_how_to_keep_it(waiting: Waiting) -> None:
    outcome = waiting.apply()
    waiting.node.clock.advance(20)
    document, text = told(lambda context: apply_verb.tell(outcome, waiting.ports, context, "ApplyResult"))
    assert document["unconfirmed"] == {"generation": 1, "left_s": 100}
    assert "not confirmed: it is taken back in 1 min 40 s unless you say: nydus-agent confirm\n" in text


def test_a_confirmation_says_what_stays_and_how_long_was_left(waiting: Waiting) -> None:
    waiting.apply()
    waiting.node.clock.advance(37)
    kept = waiting.confirm()
    document, text = told(lambda context: confirm_verb.tell(kept, context))
    assert (document["changed"], document["generation"], document["left_s"]) == (True, 1, 83)
    assert text == "generation 1 is confirmed; 1 min 23 s of 2 min were left\n"
    document, text = told(lambda context: confirm_verb.tell(waiting.confirm(), context))
    assert (document["changed"], text) == (False, "nothing waits for a confirmation\n")


def test_a_rollback_says_what_became_of_the_change(waiting: Waiting) -> None:
    waiting.apply()
    (taken,) = waiting.pass_time()
    document, text = told(lambda context: rollback_verb.tell_taken(taken, context, waiting.ports))
    assert (document["changed"], document["generation"]) == (True, 1)
    assert text == "generation 1 was not confirmed: the node is as it was without the agent\n"
    assert told(lambda context: rollback_verb.tell_taken(None, context, waiting.ports))[0]["changed"] is False


def test_a_rollback_that_only_shows_names_what_would_go_back(waiting: Waiting) -> None:
    waiting.apply()
    change = confirm.waiting(waiting.ports)
    assert change is not None
    before = waiting.made.etc()
    document, text = told(lambda context: rollback_verb.show(context, waiting.ports, change))
    assert document["kind"] == "Plan"
    assert f"remove {paths.SNAPSHOTTER_CONFIG}" in text, "before the first generation there was none"
    waiting.confirm()
    waiting.apply(LOUD)
    second = confirm.waiting(waiting.ports)
    assert second is not None
    _document, text = told(lambda context: rollback_verb.show(context, waiting.ports, second))
    assert "back to generation 1" in text
    assert waiting.made.etc() != before
    assert confirm.waiting(waiting.ports) == second


def test_a_rollback_that_only_shows_tells_of_a_change_that_was_cut_off(waiting: Waiting) -> None:
    waiting.killed()
    change = confirm.waiting(waiting.ports)
    assert change is not None
    document, text = told(lambda context: rollback_verb.show(context, waiting.ports, change))
    assert document["changed"] is False
    assert text == "the change to generation 1 did not end; it would be undone\n"


def test_a_recovery_at_boot_says_what_became_of_the_change(waiting: Waiting) -> None:
    waiting.apply()
    taken = waiting.reboot()
    document, text = told(lambda context: recover_verb.tell(None, context, taken))
    assert "not confirmed before the reboot" in document["taken_back"]
    assert text == f"{document['taken_back']}\n"
    assert told(lambda context: recover_verb.tell(None, context))[1] == "nothing to recover\n"


def test_the_history_marks_the_generation_that_is_not_confirmed(waiting: Waiting, tmp_path: Path) -> None:
    waiting.apply()
    document = printed(on_disk(waiting.made, tmp_path), "generations")
    assert complaints(document) == []
    assert [one["confirmed"] for one in document["generations"]] == [False]
    assert "unconfirmed, rolled back in" in Run(tmp_path, "generations").out
    waiting.confirm()
    (tmp_path / paths.UNCONFIRMED.lstrip("/")).unlink()
    assert printed(tmp_path, "generations")["generations"][0]["confirmed"] is True


def test_what_was_taken_back_begins_by_order_only(waiting: Waiting, tmp_path: Path) -> None:
    waiting.apply()
    waiting.pass_time()
    on_disk(waiting.made, tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/50-site.toml").write_text("[apply]\non_install = true\n")
    for occasion in ("boot", "install"):
        document = printed(tmp_path, "due", occasion)
        assert document["due"] is False
        assert "was not confirmed" in document["why"]


def wait_for(node: PublishedNode, seconds: int, ago: float) -> None:
    now = present(str(node.root / "proc"))
    record = {"id": "x", "generation": 7, "seconds": seconds, "at": time.time(), "pid": 1}
    node.put(
        "var/lib/nydus-agent/unconfirmed.json", {**record, "boot": now.boot, "boottime": now.boottime - ago}
    )


def test_status_shows_without_root_when_the_change_is_rolled_back(node: PublishedNode) -> None:
    assert printed(node.root, "status")["unconfirmed"] is None
    exit_before = printed(node.root, "status")["exit"]
    wait_for(node, 120, 37)
    text = Answer(node).text
    assert "generation 7" in text
    assert "rolled back in 1 min 2" in text
    assert "unless: nydus-agent confirm" in text
    document = printed(node.root, "status")
    assert complaints(document) == []
    assert document["unconfirmed"]["generation"] == 7
    assert document["unconfirmed"]["left_s"] == pytest.approx(83, abs=2)
    assert document["exit"] == exit_before


def test_status_names_a_change_that_should_have_been_taken_back_and_was_not(node: PublishedNode) -> None:
    # What was over so long ago is written as time that it was given: this machine may have just booted.
    wait_for(node, -200, 0)
    assert "still there" not in Answer(node).text, "a rollback takes its time"
    wait_for(node, -400, 0)
    text = Answer(node).text
    assert "generation 7 was not confirmed and is still there" in text
    assert "journalctl -u nydus-agent-rollback" in text
    assert printed(node.root, "status")["exit"] == Exit.NOT_AS_WANTED
