"""`status` without the daemon, and with files that were written by somebody who means no good."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract.server import Server, answering, serving
from tests.unit.published import PID, Answer, PublishedNode, as_json


@pytest.fixture
def node(tmp_path: Path) -> PublishedNode:
    return PublishedNode(tmp_path)


def test_a_node_that_was_not_changed_yet_is_told_the_next_command(node: PublishedNode) -> None:
    node.remove("var/lib/nydus-agent/effective.json", "var/lib/nydus-agent/proof.json")
    answer = Answer(node)
    assert answer.headline == "not applied yet: run nydus-agent plan"
    assert answer.code == 3


def test_not_installed_is_not_confused_with_not_running(node: PublishedNode) -> None:
    node.remove("run/nydus-agent/status.json")
    assert Answer(node).headline == "agent is not running: nydusd's own fallback protects reads"
    assert Answer(node).code == 3
    node.remove("usr/lib/systemd/system/nydus-agent.service")
    assert Answer(node).headline == "not installed on this node: there is no nydus-agent.service"
    (problem, *_) = as_json(node)["problems"]
    assert (Answer(node).code, problem["code"], problem["exit"]) == (3, "NNA1010", 3)


def test_an_agent_that_was_killed_is_told_from_what_it_left_behind(node: PublishedNode) -> None:
    node.kill()
    answer = Answer(node)
    assert answer.headline == (
        f"agent is not running: published 1 s ago, pid {PID} is gone: nydusd's own fallback protects reads"
    )
    assert answer.code == 3
    assert "try:   sudo systemctl start nydus-agent.service" in answer.text
    assert not any(line.startswith("state") for line in answer.text.splitlines())  # a memory is no state


def test_a_pin_that_was_released_is_not_remembered_by_a_dead_agent(node: PublishedNode) -> None:
    node.status["pin"] = {"route": "origin", "until": node.now + 600, "reason": "", "by": "mo"}
    node.write()
    node.kill()
    assert Answer(node).row("pin") == "pin none"
    assert as_json(node)["pin"] is None


def test_another_process_with_the_agents_old_number_is_not_taken_for_it(node: PublishedNode) -> None:
    node.process("0::/system.slice/cron.service\n", b"/usr/sbin/cron\0-f\0")
    assert "is gone" in Answer(node).headline


def test_an_agent_that_was_started_by_hand_counts(node: PublishedNode) -> None:
    node.process("0::/user.slice\n", b"python3\0-m\0agent\0daemon\0")
    assert Answer(node).code == 0


def test_an_agent_that_lives_but_is_silent_is_not_believed(node: PublishedNode) -> None:
    node.status["at"] = node.now - 4000
    node.write()
    answer = Answer(node)
    assert (
        answer.headline
        == f"could not tell: the agent (pid {PID}) lives but has published nothing for 1 h 6 min"
    )
    assert answer.code == 4


def test_where_proc_hides_processes_the_publications_age_decides(node: PublishedNode) -> None:
    node.kill()
    (node.root / "proc/1").rmdir()
    assert Answer(node).code == 0
    node.status["at"] = node.now - 40
    node.write()
    assert "is gone" in Answer(node).headline


def test_a_broken_configuration_is_told_where_the_agent_does_not_run_because_of_it(
    node: PublishedNode,
) -> None:
    (node.root / "agent.toml").write_text("[mirror]\nurll = 1")
    node.remove("run/nydus-agent/status.json")
    answer = Answer(node)
    assert "problem[NNA0101]" in answer.text
    assert answer.text.index("NNA0101") < answer.text.index("NNA1010")  # the cause comes first


def test_a_configuration_that_only_root_may_read_is_no_problem_of_the_node(node: PublishedNode) -> None:
    (node.root / "agent.toml").symlink_to("agent.toml")  # for root, too, a file that cannot be read
    assert Answer(node).code == 0
    assert "problem[NNA0102]" in Answer(node, uid=0).text


def test_links_in_the_daemons_directory_are_not_followed(node: PublishedNode) -> None:
    """Root runs `status` too, and the directory belongs to an unprivileged user."""
    secret = node.root / "secret"
    secret.write_text('{"health_reason": "a secret"}')
    node.remove("run/nydus-agent/status.json")
    (node.root / "run/nydus-agent/status.json").symlink_to(secret)
    answer = Answer(node)
    assert "a secret" not in answer.text
    assert answer.headline.startswith("could not tell: ")
    assert answer.code == 4


def test_a_pipe_in_the_daemons_directory_does_not_hang_root(node: PublishedNode) -> None:
    node.remove("run/nydus-agent/status.json")
    os.mkfifo(node.root / "run/nydus-agent/status.json")
    assert "is not a regular file" in Answer(node).headline


@pytest.mark.parametrize("content", ["", "[", "[]", "[" * 200_000, '{"pid": ' + "9" * 5000 + "}", "\0" * 100])
def test_a_status_that_makes_no_sense_is_told_and_never_crashes(node: PublishedNode, content: str) -> None:
    (node.root / "run/nydus-agent/status.json").write_text(content)
    answer = Answer(node)
    assert answer.headline.startswith("could not tell: ")
    assert answer.code == 4


def test_a_huge_status_is_not_read(node: PublishedNode) -> None:
    with open(node.root / "run/nydus-agent/status.json", "wb") as file:
        file.truncate(1 << 40)
    assert "is larger than" in Answer(node).headline


def test_values_of_wrong_types_count_as_not_there(node: PublishedNode) -> None:
    wrong: list[object] = [None, 3, "x", [], {}, True, [3], [{}], 1e400]
    for key in list(node.status):
        for value in wrong:
            node.put("run/nydus-agent/status.json", node.status | {key: value})
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
    node.status["health_reason"] = "\x1b]0;owned\x07\u202e"
    node.write()
    answer = Answer(node, "--color", "never")
    assert not set(answer.text) & {"\x1b", "\x07", "\u202e"}


# A daemon that lives and cannot write its file


def told_on_the_socket(node: PublishedNode, **more: object) -> AbstractContextManager[Server]:
    """The daemon answers on its socket with what it knows now."""
    document = json.dumps({**node.status, "at": node.now, **more}).encode()
    return serving(answering("200 OK", document), str(node.root / "run/nydus-agent/api.sock"))


def test_a_living_agent_whose_file_is_old_is_asked_on_its_socket(node: PublishedNode) -> None:
    node.status["at"] = node.now - 40
    node.write()
    with told_on_the_socket(node, route="origin", health_state="down", health_reason="ping refused"):
        answer = Answer(node)
    assert answer.headline.startswith("reads go to the origin")
    assert answer.row("agent").startswith("agent running")
    assert "cannot publish what it sees" in answer.text
    assert "status.json was written 40 s ago" in answer.text
    assert answer.code == 3


@pytest.mark.parametrize("content", [None, "", "[]"])
def test_so_it_is_where_the_file_is_missing_or_damaged(node: PublishedNode, content: str | None) -> None:
    file = node.root / "run/nydus-agent/status.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with told_on_the_socket(node):
        answer = Answer(node)
    assert answer.headline.startswith("serving from mirror")
    assert "cannot publish what it sees" in answer.text


def test_a_new_agent_that_could_never_write_is_not_taken_for_a_dead_one(node: PublishedNode) -> None:
    node.status["pid"] = PID + 1  # a former one
    node.write()
    with told_on_the_socket(node, pid=PID):
        assert Answer(node).headline.startswith("serving from mirror")


def test_a_socket_that_makes_no_sense_or_tells_of_a_dead_process_is_not_believed(node: PublishedNode) -> None:
    node.status["at"] = node.now - 4000  # told in minutes, so that nobody's seconds count
    node.write()
    with told_on_the_socket(node, pid=PID + 1):
        assert "has published nothing for 1 h 6 min" in Answer(node).headline
    (node.root / "run/nydus-agent/api.sock").unlink()
    with serving(answering("200 OK", b"[]"), str(node.root / "run/nydus-agent/api.sock")):
        assert "has published nothing for 1 h 6 min" in Answer(node).headline


def test_a_healthy_file_is_enough(node: PublishedNode) -> None:
    with told_on_the_socket(node) as server:
        assert Answer(node).code == 0
    assert server.heads == []


def test_what_is_pending_after_a_rollback_is_told_without_root_with_the_way_to_see_it(
    node: PublishedNode,
) -> None:
    node.effective["rolled_back_to"] = 1
    node.proof["pending"] = ["replace /etc/nydus/snapshotter.toml: how the snapshotter runs"]
    node.write()
    answer = Answer(node)
    assert answer.code == 3
    assert (
        answer.row("applied")
        == "applied fence, proxy generation 3, rolled back to 1: it holds until nydus-agent apply"
    )
    assert "[NNA1013]: the configuration wants other than is in force" in answer.text
    assert "cause: the node was rolled back to generation 1" in answer.text
    assert "seen:  replace /etc/nydus/snapshotter.toml" in answer.text
    assert "try:   sudo nydus-agent plan" in answer.text


def test_an_edited_configuration_is_pending_and_nothing_was_rolled_back(node: PublishedNode) -> None:
    node.proof["pending"] = ["replace /etc/nydus/snapshotter.toml: how the snapshotter runs"]
    node.write()
    answer = Answer(node)
    assert answer.code == 3
    assert "rolled back" not in answer.text
    assert as_json(node)["problems"][0]["code"] == "NNA1013"
