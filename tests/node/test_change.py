"""A change that is killed, interrupted, cut off or refused: the node is the old one or the new one, never
mixed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.test_safety import CONTAINERD_CONFIG, installed, tree

# On a machine with much other work the agent sees a change in its middle.
pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: ChangedSinceProof: ",
    r"^nydus-agent.service: Drift: /usr/local/bin/containerd is gone",  # GATE, which a test takes away
)

GATE = """\
#!/bin/sh
case "$*" in *"config dump"*) touch /run/at-the-check; until [ -e /run/go ]; do sleep 0.05; done;; esac
exec /usr/bin/containerd "$@"
"""
"""containerd in PATH, which holds a change where it lets containerd check the new configuration: the
snapshotter is up by then, and containerd's own configuration is not yet written."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with installed() as made:
        yield made


@pytest.fixture
def plain(shared: Node) -> Iterator[Node]:
    """One node for many tests: each leaves it as it was."""
    before = state(shared)
    yield shared
    assert state(shared) == before


@pytest.fixture
def node() -> Iterator[Node]:
    """A node for one test alone."""
    with installed() as made:
        yield made


def held_change(node: Node) -> subprocess.Popen[bytes]:
    """An apply that stands in its middle."""
    node.write("/usr/local/bin/containerd", GATE, mode=0o755)
    process = node.popen(["nydus-agent", "apply", "--now"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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


def test_a_killed_change_is_undone_by_recover(plain: Node) -> None:
    before = state(plain)
    process = held_change(plain)
    plain.run(["kill", "-KILL", pid_of_apply(plain)])
    let_go(plain, process)
    assert state(plain) != before
    told = scene.agent(plain, "recover")
    assert "was undone" in told.stdout
    assert state(plain) == before
    assert plain.run("pgrep nydusd || true").stdout == ""


def test_a_killed_change_does_not_stand_in_the_way_of_the_next_one(plain: Node) -> None:
    process = held_change(plain)
    plain.run(["kill", "-KILL", pid_of_apply(plain)])
    let_go(plain, process)
    told = scene.agent(plain, "apply", "--now")
    assert "was undone first" in told.stdout
    assert "generation 1 is in force" in told.stdout
    assert scene.agent_json(plain, "apply")["changed"] is False
    scene.agent(plain, "remove")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_puts_the_node_back(plain: Node, name: str) -> None:
    before = state(plain)
    process = held_change(plain)
    plain.run(["kill", f"-{name}", pid_of_apply(plain)])
    told = let_go(plain, process)
    assert process.returncode == 1
    assert f"SIG{name} was received" in told
    assert "the node is as it was before" in told
    assert state(plain) == before


def test_a_second_change_at_the_same_time_is_told_who_holds_the_lock(plain: Node) -> None:
    process = held_change(plain)
    try:
        second = scene.agent(plain, "apply", check=False)
        assert second.returncode == 75
        assert f"process {pid_of_apply(plain)}" in second.stderr
        assert "apply" in second.stderr
    finally:
        let_go(plain, process)
    assert process.returncode in (0, 3)
    scene.agent(plain, "remove")


REF = "127.0.0.1:5000/python-nydus:1"


def start_container(node: Node) -> None:
    """A container from a nydus image that goes on until it is killed."""
    scene.pull(node, REF)
    run = ["ctr", "-n", "k8s.io", "run", "--detach", "--cpu-shares", "0"]
    run += ["--snapshotter", "nydus", REF, "long"]
    node.run([*run, "python3", "-c", "import time; time.sleep(600)"])


def read_in_container(node: Node, path: str) -> str:
    """A file that nobody has read yet, read in the running container."""
    return node.run(["ctr", "-n", "k8s.io", "task", "exec", "--exec-id", "read", "long", "cat", path]).stdout


def end_container(node: Node) -> None:
    node.run(["ctr", "-n", "k8s.io", "task", "delete", "--force", "long"])


def test_removal_is_refused_under_a_running_container_and_leaves_nothing_behind_after_it(plain: Node) -> None:
    before = tree(plain)
    scene.agent(plain, "apply", "--now")
    start_container(plain)
    refused = scene.agent(plain, "remove", check=False)
    assert refused.returncode == 1
    assert "nydus-agent remove --force" in refused.stderr
    assert "proxy_plugins" in plain.read(CONTAINERD_CONFIG)
    end_container(plain)
    plain.run(["ctr", "-n", "k8s.io", "container", "delete", "long"])
    removed = scene.agent(plain, "remove")
    assert "stays: /var/lib/containerd-nydus" in removed.stdout
    assert tree(plain) == before
    gone = "! pgrep nydusd && ! grep -q /var/lib/containerd-nydus/ /proc/1/mounts"
    plain.wait_until(
        lambda: plain.run(gone, check=False).returncode == 0, 10, "no nydusd and no mount is left"
    )
    assert "overlayfs" in plain.run(["crictl", "imagefsinfo"]).stdout


def test_a_forced_removal_does_not_pull_the_ground_from_under_a_running_container(node: Node) -> None:
    scene.agent(node, "apply")
    start_container(node)
    removed = scene.agent(node, "remove", "--force")
    assert "running containers stand on them" in removed.stdout
    assert "ID" in read_in_container(node, "/etc/os-release")
    end_container(node)
