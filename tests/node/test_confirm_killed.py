"""A change that nobody confirms is taken back in time, whatever becomes of its process or of the agent."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import CONTAINERD_CONFIG, at_the_check, hold, let_go, pid_of_apply, state
from tests.node.test_confirm import APPLY, UNCONFIRMED, is_set, is_well, until_taken_back

# On a machine with much other work the agent sees a change in its middle.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: ChangedSinceProof: ")


def recorded(node: Node) -> bool:
    return node.exists(UNCONFIRMED)


def containerd_written(node: Node) -> bool:
    return "proxy_plugins" in node.read(CONTAINERD_CONFIG)


def accepted(node: Node) -> bool:
    number = json.loads(node.read(UNCONFIRMED))["generation"] if recorded(node) else 0
    return node.exists(f"/var/lib/nydus-agent/generations/{number}.json")


@pytest.mark.parametrize("moment", [recorded, at_the_check, containerd_written, accepted])
def test_a_change_that_is_killed_is_undone_in_time(plain: Node, moment: Callable[[Node], bool]) -> None:
    before = state(plain)
    if moment is at_the_check:
        hold(plain)
    process = plain.popen(APPLY, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    plain.wait_until(lambda: moment(plain), 60, "the change is there")
    plain.run(["kill", "-KILL", pid_of_apply(plain)])
    let_go(plain, process)
    assert is_set(plain)
    until_taken_back(plain)
    assert state(plain) == before
    is_well(plain)


def test_a_change_that_was_stopped_on_its_terminal_is_ended_and_undone_in_time(plain: Node) -> None:
    before = state(plain)
    hold(plain)
    process = plain.popen(APPLY, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    plain.wait_until(lambda: at_the_check(plain), 30, "the change is in its middle")
    plain.run(["kill", "-STOP", pid_of_apply(plain)])  # as Ctrl-Z does
    plain.write("/run/go", "")
    until_taken_back(plain)
    process.send_signal(signal.SIGCONT)  # nsenter(1) had stopped with it
    let_go(plain, process)
    assert state(plain) == before
    is_well(plain)


def test_a_killed_agent_does_not_keep_a_change_from_being_taken_back(plain: Node) -> None:
    before = state(plain)
    assert scene.agent(plain, *APPLY[1:], check=False).returncode in (0, 3)
    plain.run(["systemctl", "stop", "nydus-agent"])
    until_taken_back(plain)
    plain.run(["systemctl", "start", "nydus-agent"])
    assert state(plain) == before
    is_well(plain)
