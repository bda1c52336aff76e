"""A change that nobody confirms is taken back in time, whatever becomes of the terminal or the machine; one
that is confirmed stays. (test_confirm_killed: whatever becomes of the process and the agent.)
"""

from __future__ import annotations

import os
import time

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import (
    at_the_check,
    end_container,
    hold,
    let_go,
    read_in_container,
    start_container,
    state,
    tree,
)

# On a machine with much other work the agent sees a change in its middle.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: ChangedSinceProof: ")
BOOTED = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")
"""After a boot the test's mirror and registry are gone."""

TIME_S = 30
ROLLBACK_S = 30
"""A rollback restarts containerd and proves it: a few seconds on an idle machine."""
LONG_S = 60
"""Where there must be time left after the change, which may take half a minute on a machine with other
work.
"""
# --now: these tests restart containerd more often within an hour than is allowed without it.
APPLY = ["nydus-agent", "apply", "--now", "--confirm", f"{TIME_S}s"]
UNCONFIRMED = "/var/lib/nydus-agent/unconfirmed.json"


def is_set(node: Node) -> bool:
    return node.show("nydus-agent-rollback.timer", "SubState") == "waiting"


def until_taken_back(node: Node) -> None:
    """Wait until the change was taken back: neither its record nor a rollback under way is left."""

    def done() -> bool:
        # Looked at from outside first: half a minute of asking systemd would cost many seconds.
        if node.exists(UNCONFIRMED):
            return False
        return node.show("nydus-agent-rollback.service", "ActiveState") != "activating"

    node.wait_until(done, TIME_S + ROLLBACK_S, "the change was taken back")


def is_well(node: Node) -> None:
    """containerd answers, and pods would get its own snapshotter."""
    node.run(["ctr", "version"])
    assert "overlayfs" in node.run(["crictl", "imagefsinfo"]).stdout


class Terminal:
    """A command on a terminal of its own, which can be closed."""

    def __init__(self, node: Node, command: list[str]) -> None:
        self._master, slave = os.openpty()
        self.process = node.popen(
            ["setsid", "--ctty", "--wait", *command], stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def close(self) -> None:
        os.close(self._master)

    def wait(self, seconds: float) -> str:
        """The command's output, once it has ended."""
        self.process.wait(seconds)
        os.set_blocking(self._master, False)
        told = b""
        try:
            while part := os.read(self._master, 65536):
                told += part
        except (BlockingIOError, OSError):
            pass
        return told.decode(errors="replace")


def test_a_terminal_that_is_closed_after_the_change_does_not_keep_it_from_being_taken_back(
    plain: Node,
) -> None:
    before = state(plain)
    terminal = Terminal(plain, APPLY)
    told = terminal.wait(60)
    assert "unless you say: nydus-agent confirm" in told
    assert is_set(plain)
    shown = scene.agent(plain, "status", check=False).stdout
    assert "rolled back in" in shown
    assert "unless: nydus-agent confirm" in scene.agent(plain, "generations").stdout
    second = scene.agent(plain, "apply", check=False)
    assert second.returncode == 75
    assert "nydus-agent rollback takes it back now" in second.stderr
    terminal.close()
    assert state(plain) != before
    until_taken_back(plain)
    assert state(plain) == before
    is_well(plain)
    late = scene.agent(plain, "confirm", check=False)
    assert late.returncode == 1
    assert "too late" in late.stderr


def test_a_terminal_that_is_closed_in_the_middle_of_the_change_leaves_the_node_as_it_was(plain: Node) -> None:
    before = state(plain)
    hold(plain)
    terminal = Terminal(plain, APPLY)
    plain.wait_until(lambda: at_the_check(plain), 30, "the change is in its middle")
    terminal.close()
    let_go(plain, terminal.process)
    until_taken_back(plain)
    assert state(plain) == before
    is_well(plain)


def test_a_change_that_is_confirmed_stays(plain: Node) -> None:
    before = state(plain)
    assert scene.agent(plain, "apply", "--now", "--confirm", f"{LONG_S}s", check=False).returncode in (0, 3)
    changed = state(plain)
    kept = scene.agent_json(plain, "confirm")
    over = time.monotonic() + kept["left_s"] + 2
    assert kept["changed"] is True
    assert 0 < kept["left_s"] < LONG_S
    assert not is_set(plain)
    plain.wait_until(lambda: time.monotonic() > over, LONG_S + 5, "its time is over")
    assert state(plain) == changed
    assert scene.agent(plain, "confirm").stdout == "nothing waits for a confirmation\n"
    scene.agent(plain, "remove")
    assert state(plain) == before


@BOOTED
def test_a_reboot_is_no_confirmation_and_the_boot_does_not_begin_the_change_anew(bare: Node) -> None:
    before = tree(bare)
    assert scene.agent(bare, "apply", "--confirm", "1h", check=False).returncode in (0, 3)
    bare.reboot()
    assert tree(bare) == before
    is_well(bare)
    recovered = int(bare.show("nydus-agent-recover.service", "ExecMainExitTimestampMonotonic"))
    assert 0 < recovered < int(bare.show("containerd.service", "ActiveEnterTimestampMonotonic"))
    assert bare.run(["systemctl", "is-active", "nydus-snapshotter"], check=False).stdout.strip() != "active"
    assert "Failed" not in bare.journal("nydus-snapshotter.service").rpartition("-- Boot")[2]
    bare.write("/etc/nydus-agent/conf.d/60-all.toml", "[apply]\non_install = true\n")
    bare.power_cut()
    assert "not due" in scene.agent(bare, "due", "boot", check=False).stdout
    is_well(bare)


@BOOTED
def test_a_power_cut_leaves_the_generation_before_the_one_that_nobody_confirmed(bare: Node) -> None:
    assert scene.agent(bare, "apply", check=False).returncode in (0, 3)
    before = bare.run("sha256sum /etc/nydus/* /etc/containerd/config.toml", check=False).stdout
    bare.write("/etc/nydus-agent/conf.d/60-loud.toml", '[snapshotter]\nlog_level = "debug"\n')
    assert scene.agent(bare, "apply", "--confirm", "1h", check=False).returncode in (0, 3)
    assert bare.run("sha256sum /etc/nydus/* /etc/containerd/config.toml", check=False).stdout != before
    bare.power_cut()
    assert bare.run("sha256sum /etc/nydus/* /etc/containerd/config.toml", check=False).stdout == before
    bare.wait_until(
        lambda: "/var/lib/containerd-nydus" in bare.run(["crictl", "imagefsinfo"], check=False).stdout, 30,
        "CRI uses the snapshotter",
    )  # fmt: skip
    assert bare.run(["systemctl", "is-active", "nydus-snapshotter"]).stdout.strip() == "active"
    assert "rollback to 1" in scene.agent(bare, "generations").stdout


def test_containers_that_were_started_meanwhile_read_on_and_can_be_removed(plain: Node) -> None:
    before = tree(plain)
    assert scene.agent(plain, *APPLY[1:], check=False).returncode in (0, 3)
    start_container(plain)
    until_taken_back(plain)
    is_well(plain)
    assert "ID" in read_in_container(plain, "/etc/os-release")
    end_container(plain)
    plain.run(["ctr", "-n", "k8s.io", "container", "delete", "long"])
    scene.agent(plain, "remove")
    assert tree(plain) == before
