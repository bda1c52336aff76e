"""`status` without the daemon, and with files that were written by somebody who means no good."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.contract.server import Server, answering, serving
from tests.unit.published import PID, Answer, PublishedNode, as_json

STATUS = "run/nydus-agent/status.json"
FALLBACK = "nydusd's own fallback protects reads"
SILENT = "has published nothing for 1 h 6 min"


def test_a_node_that_was_not_changed_yet_is_told_the_next_command(node: PublishedNode) -> None:
    node.remove("var/lib/nydus-agent/effective.json", "var/lib/nydus-agent/proof.json")
    answer = Answer(node)
    assert (answer.headline, answer.code) == ("not applied yet: run nydus-agent plan", 3)


def test_not_installed_is_not_confused_with_not_running(node: PublishedNode) -> None:
    node.remove(STATUS)
    assert (Answer(node).headline, Answer(node).code) == (f"agent is not running: {FALLBACK}", 3)
    node.remove("usr/lib/systemd/system/nydus-agent.service")
    assert Answer(node).headline == "not installed on this node: there is no nydus-agent.service"
    (problem, *_) = as_json(node)["problems"]
    assert (Answer(node).code, problem["code"], problem["exit"]) == (3, "NNA1010", 3)


def test_an_agent_that_was_killed_is_told_from_what_it_and_root_left_behind(node: PublishedNode) -> None:
    finding = {"kind": "unit-down", "subject": "a.service", "what": "a.service does not run", "evidence": [],
               "remedy": "repair", "try": "sudo nydus-agent repair"}  # fmt: skip
    node.put("var/lib/nydus-agent/drift.json", {"findings": [finding, "rubbish", {"kind": "of tomorrow"}]})
    node.change({"pin": {"route": "origin", "until": 600.0, "reason": "", "by": "mo"}})
    assert "a.service does not run" not in Answer(node).text  # the agent knows better
    node.kill()
    answer = Answer(node)
    assert answer.headline == f"agent is not running: published 1 s ago, pid {PID} is gone: {FALLBACK}"
    assert answer.code == 3
    assert "try:   sudo systemctl start nydus-agent.service" in answer.text
    assert not any(line.startswith("state") for line in answer.text.splitlines())  # a memory is no state
    assert answer.row("pin") == "pin none"  # it may have been released since
    assert "a.service does not run" in answer.text


def test_the_process_is_known_by_its_unit_or_its_command_line(node: PublishedNode) -> None:
    node.process("0::/user.slice\n", b"python3\0-m\0agent\0daemon\0")
    assert Answer(node).code == 0
    node.process("0::/system.slice/cron.service\n", b"/usr/sbin/cron\0-f\0")
    assert "is gone" in Answer(node).headline


def test_where_proc_hides_processes_the_publications_age_decides(node: PublishedNode) -> None:
    node.kill()
    (node.root / "proc/1").rmdir()
    assert Answer(node).code == 0
    node.change({"at": -40.0})
    assert "is gone" in Answer(node).headline


def a_link(node: PublishedNode) -> None:
    """Root runs `status` too, and the directory belongs to an unprivileged user."""
    secret = node.root / "secret"
    secret.write_text('{"health_reason": "a secret"}')
    node.remove(STATUS)
    (node.root / STATUS).symlink_to(secret)


def a_pipe(node: PublishedNode) -> None:
    node.remove(STATUS)
    os.mkfifo(node.root / STATUS)


def a_huge_file(node: PublishedNode) -> None:
    with open(node.root / STATUS, "wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("place", [a_link, a_pipe, a_huge_file])
def test_only_a_small_regular_file_is_read(
    node: PublishedNode, place: Callable[[PublishedNode], None]
) -> None:
    place(node)
    answer = Answer(node)
    assert "a secret" not in answer.text
    assert answer.headline.startswith("could not tell: ")
    assert answer.code == 4


@pytest.mark.parametrize("content", ["", "[", "[]", "[" * 200_000, '{"pid": ' + "9" * 5000 + "}", "\0" * 100])
def test_a_status_that_makes_no_sense_is_told_and_never_crashes(node: PublishedNode, content: str) -> None:
    (node.root / STATUS).write_text(content)
    answer = Answer(node)
    assert answer.headline.startswith("could not tell: ")
    assert answer.code == 4


def test_values_of_wrong_types_count_as_not_there(node: PublishedNode) -> None:
    wrong: list[object] = [None, 3, "x", [], {}, True, [3], [{}], 1e400]
    for key in list(node.status):
        for value in wrong:
            node.put(STATUS, node.status | {key: value})
            assert Answer(node).code in (0, 3, 4), (key, value)
            assert as_json(node)["kind"] == "Status"
    for value in wrong:
        node.put(
            "var/lib/nydus-agent/proof.json",
            {"at": value, "checks": value, "versions": value, "drift": value},
        )
        node.put("var/lib/nydus-agent/effective.json", {"at": value, "switch": value, "reasons": value})
        node.put("var/lib/nydus-agent/pin.json", {"route": value, "until": value, "by": value})
        node.write_status()
        assert Answer(node).code in (0, 3, 4), value


def test_a_text_of_the_daemon_cannot_drive_roots_terminal(node: PublishedNode) -> None:
    node.change({"health_reason": "\x1b]0;owned\x07\u202e"})
    answer = Answer(node, "--color", "never")
    assert not set(answer.text) & {"\x1b", "\x07", "\u202e"}


# A daemon that lives and cannot write its file


def told_on_the_socket(node: PublishedNode, **more: object) -> AbstractContextManager[Server]:
    """The daemon answers on its socket with what it knows now."""
    document = json.dumps({**node.status, "at": node.now, **more}).encode()
    return serving(answering("200 OK", document), str(node.root / "run/nydus-agent/api.sock"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("old", "status.json was written 40 s ago"),
        (None, "status.json is not there"),
        ("[]", "status.json: is not a JSON object"),
    ],
)
def test_a_living_agent_whose_file_is_of_no_use_is_asked_on_its_socket(
    node: PublishedNode, content: str | None, why: str
) -> None:
    file = node.root / STATUS
    node.change({"at": -40.0})
    if content is None:
        file.unlink()
    elif content != "old":
        file.write_text(content)
    with told_on_the_socket(node, route="origin", health_state="down", health_reason="ping refused"):
        answer = Answer(node)
    assert answer.headline.startswith("reads go to the origin")
    assert answer.row("agent").startswith("agent running")
    assert "cannot publish what it sees" in answer.text
    assert why in answer.text
    assert answer.code == 3


def test_a_new_agent_that_could_never_write_is_not_taken_for_a_dead_one(node: PublishedNode) -> None:
    node.change({"pid": PID + 1})  # a former one
    with told_on_the_socket(node, pid=PID):
        assert Answer(node).headline.startswith("serving from mirror")


def test_a_socket_that_makes_no_sense_or_tells_of_a_dead_process_is_not_believed(node: PublishedNode) -> None:
    node.change({"at": -4000.0})  # told in minutes, so that nobody's seconds count
    with told_on_the_socket(node, pid=PID + 1):
        assert SILENT in Answer(node).headline
    (node.root / "run/nydus-agent/api.sock").unlink()
    with serving(answering("200 OK", b"[]"), str(node.root / "run/nydus-agent/api.sock")):
        assert SILENT in Answer(node).headline


def test_a_healthy_file_is_enough(node: PublishedNode) -> None:
    with told_on_the_socket(node) as server:
        assert Answer(node).code == 0
    assert server.heads == []
