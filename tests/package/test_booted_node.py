"""On a node that runs: apt installs, upgrades and purges without a trace and without touching what runs
there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.apply import services
from agent.catalogue import Message
from tests.node.boot import Node
from tests.package.deb import NAME, Package

OTHERS = ("containerd.service",)
OURS = ("nydus-agent.service", "nydus-agent-inspect.timer", "nydus-agent-inspect.path")


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as node:
        yield node


def _pids(node: Node) -> dict[str, int]:
    return {unit: node.main_pid(unit) for unit in OTHERS}


def _tree(node: Node) -> dict[str, str]:
    """What lies on the node, without what its own services write while they run."""
    script = (Path(__file__).parent / "tree.py").read_text()
    lines = node.run(["python3", "-I", "-"], input=script, timeout=120).stdout.splitlines()
    alive = ("/var/lib/containerd/", "/var/lib/systemd/", "/var/lib/apt/", "/var/tmp")
    pairs = (line.partition(" ") for line in lines)
    return {path: told for path, _, told in pairs if not path.startswith(alive)}


def test_installing_starts_a_watch_and_purging_leaves_nothing(node: Node, package: Package) -> None:
    before, pids = _tree(node), _pids(node)

    node.install_deb(package.path)
    for unit in OURS:
        assert node.show(unit, "ActiveState") == "active", node.journal(unit)
    assert node.show("nydus-agent-apply.service", "ExecMainStartTimestampMonotonic") in ("", "0")
    assert node.failed_units() == []
    assert node.run(["ps", "-o", "user=", "-p", str(node.main_pid(OURS[0]))]).stdout.strip() == "nydus-agent"

    node.apt("purge", NAME)
    after = _tree(node)
    assert {
        path: (before.get(path), after.get(path))
        for path in before | after
        if before.get(path) != after.get(path)
    } == {}
    assert (
        node.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "nydus-agent*"]).stdout == ""
    )
    assert node.run(["getent", "passwd", "nydus-agent"], check=False).returncode == 2
    assert node.run(["nft", "list", "tables"]).stdout == ""
    assert node.run(["ss", "-Hltn", "sport = :14003"]).stdout == ""
    assert not node.exists("/run/nydus-agent")
    assert _pids(node) == pids


def test_the_journal_explains_what_the_daemon_says_while_it_is_installed(
    node: Node, package: Package
) -> None:
    node.install_deb(package.path)
    node.wait_until(lambda: "has started" in node.journal(OURS[0]), 10, "the daemon's first line")
    told = node.run(["journalctl", "--catalog", f"--unit={OURS[0]}"]).stdout
    assert "Subject: nydus-agent has started\n" in told
    ids = {message.value for message in Message}
    assert ids <= _catalogue(node)

    node.apt("purge", NAME)
    assert ids & _catalogue(node) == set()


def _catalogue(node: Node) -> set[str]:
    return {line.split()[0] for line in node.run(["journalctl", "--list-catalog"]).stdout.splitlines()}


def test_a_reboot_changes_a_node_only_when_its_operator_had_said_so(node: Node, package: Package) -> None:
    node.install_deb(package.path)
    node.reboot()
    assert "not due" in node.journal("nydus-agent-boot.service")
    assert node.journal("nydus-agent-apply.service") == ""
    assert node.failed_units() == []

    # As in an image whose configuration came after the package: nobody queued anything yet.
    node.write("/etc/nydus-agent/conf.d/50-fleet.toml", "[apply]\non_install = true\n")
    node.reboot()
    node.wait_until(
        lambda: node.journal("nydus-agent-apply.service") != "", 30, "the first boot begins the change"
    )
    assert "due: [apply] on_install is set" in node.journal("nydus-agent-boot.service")


def test_what_a_change_unmounts_is_unmounted_on_the_node(node: Node, package: Package) -> None:
    """The sandbox of the apply unit has a mount namespace of its own, in which an unmount alone would
    stay.
    """
    node.install_deb(package.path)
    node.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    command = " ".join([*services.UNMOUNT, "/mnt"])
    override = f"[Service]\nExecStartPre=\nExecStart=\nExecStart=/usr/bin/{command}\n"
    node.write("/run/systemd/system/nydus-agent-apply.service.d/50-unmount.conf", override)
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "start", "nydus-agent-apply.service"])
    assert node.run(["findmnt", "/mnt"], check=False).returncode == 1


_HOLD = """
import fcntl, sys
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_change_that_was_ordered_waits_until_dpkg_has_finished(node: Node, package: Package) -> None:
    node.install_deb(package.path)
    unit = "nydus-agent-apply.service"

    def has_begun() -> bool:
        return node.show(unit, "ExecMainStartTimestampMonotonic") not in ("", "0")

    with node.popen(["python3", "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as apt:
        assert apt.stdout is not None
        assert apt.stdin is not None
        assert apt.stdout.readline() == b"held\n"
        node.run(["systemctl", "start", "--no-block", unit])
        node.wait_until(lambda: node.show(unit, "SubState") == "start-pre", 20, "the change waits")
        assert not has_begun()
        apt.stdin.close()
        node.wait_until(has_begun, 20, "the change begins once the lock is free")
