"""A change that is killed, interrupted, cut off or refused: the node is the old one or the new one, never
mixed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.test_safety import CONTAINERD_CONFIG, NO_CHANGE, tree

# On a machine with much other work the agent sees a change in its middle.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: ChangedSinceProof: ")

GATE = """\
#!/bin/sh
case "$*" in *"config dump"*) touch /run/at-the-check; until [ -e /run/go ]; do sleep 0.05; done;; esac
exec /usr/bin/containerd "$@"
"""
"""containerd in PATH, which holds a change where it lets containerd check the new configuration: the
snapshotter is up by then, and containerd's own configuration is not yet written."""


@pytest.fixture
def node() -> Iterator[Node]:
    with scene.staged("python-nydus", installed=False) as stage:
        scene.install_only(stage.node, NO_CHANGE)
        yield stage.node


def held_change(node: Node) -> subprocess.Popen[bytes]:
    """An apply that stands in its middle."""
    node.write("/usr/local/bin/containerd", GATE, mode=0o755)
    process = node.popen(["nydus-agent", "apply"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    node.wait_until(lambda: node.exists("/run/at-the-check"), 30, "the change is in its middle")
    assert node.exists("/etc/nydus/snapshotter.toml")
    assert node.run(["systemctl", "is-active", "nydus-snapshotter"]).stdout.strip() == "active"
    return process


def pid_of_apply(node: Node) -> str:
    return node.run(["pgrep", "--full", "^/usr/bin/python3.*nydus-agent apply"]).stdout.split()[0]


def let_go(node: Node, process: subprocess.Popen[bytes]) -> str:
    node.write("/run/go", "")
    out, _ = process.communicate(timeout=60)
    node.run(["rm", "-f", "/usr/local/bin/containerd", "/run/go", "/run/at-the-check"])
    return out.decode()


def state(node: Node) -> tuple[str, str, str]:
    units = node.run(["systemctl", "is-active", "containerd", "nydus-snapshotter"], check=False).stdout
    return tree(node), units, node.run("ls /var/lib/nydus-agent/journal 2>/dev/null || true").stdout


def test_a_killed_change_is_undone_by_recover(node: Node) -> None:
    before = state(node)
    process = held_change(node)
    node.run(["kill", "-KILL", pid_of_apply(node)])
    let_go(node, process)
    assert state(node) != before
    told = scene.agent(node, "recover")
    assert "was undone" in told.stdout
    assert state(node) == before
    assert node.run("pgrep nydusd || true").stdout == ""


def test_a_killed_change_does_not_stand_in_the_way_of_the_next_one(node: Node) -> None:
    process = held_change(node)
    node.run(["kill", "-KILL", pid_of_apply(node)])
    let_go(node, process)
    told = scene.agent(node, "apply")
    assert "was undone first" in told.stdout
    assert "generation 1 is in force" in told.stdout
    assert scene.agent_json(node, "apply")["changed"] is False


def test_a_power_cut_in_the_middle_is_undone_before_the_runtimes_start(node: Node) -> None:
    before = tree(node)
    process = held_change(node)
    node.power_cut()
    process.communicate(timeout=30)
    node.run(["rm", "-f", "/usr/local/bin/containerd"])
    assert tree(node) == before
    assert node.run(["systemctl", "is-active", "containerd"]).stdout.strip() == "active"
    recovered = _finished_at(node, "nydus-agent-recover.service")
    assert recovered < int(_show(node, "containerd.service", "ActiveEnterTimestampMonotonic"))
    assert "proxy_plugins" not in node.read(CONTAINERD_CONFIG)


def _finished_at(node: Node, unit: str) -> int:
    finished = int(_show(node, unit, "ExecMainExitTimestampMonotonic"))
    assert finished > 0, f"{unit} did not run"
    return finished


def _show(node: Node, unit: str, name: str) -> str:
    return node.run(["systemctl", "show", f"--property={name}", "--value", unit]).stdout.strip()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_puts_the_node_back(node: Node, name: str) -> None:
    before = state(node)
    process = held_change(node)
    node.run(["kill", f"-{name}", pid_of_apply(node)])
    told = let_go(node, process)
    assert process.returncode == 1
    assert f"SIG{name} was received" in told
    assert "the node is as it was before" in told
    assert state(node) == before


def test_a_second_change_at_the_same_time_is_told_who_holds_the_lock(node: Node) -> None:
    process = held_change(node)
    try:
        second = scene.agent(node, "apply", check=False)
        assert second.returncode == 75
        assert f"process {pid_of_apply(node)}" in second.stderr
        assert "apply" in second.stderr
    finally:
        let_go(node, process)
    assert process.returncode in (0, 3)


REF = "127.0.0.1:5000/python-nydus:1"


def start_container(node: Node) -> None:
    """A container from a nydus image that goes on until it is killed."""
    scene.pull(node, REF)
    run = [
        "ctr",
        "-n",
        "k8s.io",
        "run",
        "--detach",
        "--cpu-shares",
        "0",
        "--snapshotter",
        "nydus",
        REF,
        "long",
    ]
    node.run([*run, "python3", "-c", "import time; time.sleep(600)"])


def read_in_container(node: Node, path: str) -> str:
    """A file that nobody has read yet, read in the running container."""
    return node.run(["ctr", "-n", "k8s.io", "task", "exec", "--exec-id", "read", "long", "cat", path]).stdout


def end_container(node: Node) -> None:
    node.run(["ctr", "-n", "k8s.io", "task", "delete", "--force", "long"])


def test_removal_is_refused_under_a_running_container_and_leaves_nothing_behind_after_it(node: Node) -> None:
    before = tree(node)
    scene.agent(node, "apply")
    start_container(node)
    refused = scene.agent(node, "remove", check=False)
    assert refused.returncode == 1
    assert "nydus-agent remove --force" in refused.stderr
    assert "proxy_plugins" in node.read(CONTAINERD_CONFIG)
    end_container(node)
    node.run(["ctr", "-n", "k8s.io", "container", "delete", "long"])
    removed = scene.agent(node, "remove")
    assert "stays: /var/lib/containerd-nydus" in removed.stdout
    assert tree(node) == before
    gone = "! pgrep nydusd && ! grep -q /var/lib/containerd-nydus/ /proc/1/mounts"
    node.wait_until(lambda: node.run(gone, check=False).returncode == 0, 10, "no nydusd and no mount is left")
    assert "overlayfs" in node.run(["crictl", "imagefsinfo"]).stdout


def test_a_forced_removal_does_not_pull_the_ground_from_under_a_running_container(node: Node) -> None:
    scene.agent(node, "apply")
    start_container(node)
    removed = scene.agent(node, "remove", "--force")
    assert "running containers stand on them" in removed.stdout
    assert "ID" in read_in_container(node, "/etc/os-release")
    end_container(node)
