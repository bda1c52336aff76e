"""A snapshotter that was on the node before us: after a removal its unit is what it was before the first
apply.
"""

from __future__ import annotations

import re

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import LEFT_OVER, NO_CHANGE, end_container, read_in_container, start_container
from tests.node.test_cut_off import stopped_at

UNIT = "nydus-snapshotter.service"
PACKAGED = f"/usr/lib/systemd/system/{UNIT}"
THEIRS = "/etc/theirs/config.toml"
SOCKET = "/run/theirs/containerd-nydus-grpc.sock"
# A KillMode that takes nydusd along with the snapshotter: systemd's default, which packages leave as it is.
FOREIGN = f"""\
[Unit]
Description=somebody's own snapshotter
[Service]
ExecStart=/usr/local/bin/containerd-nydus-grpc --config {THEIRS}
[Install]
WantedBy=multi-user.target
"""


def unit(node: Node) -> dict[str, str]:
    names = ("ActiveState", "UnitFileState", "FragmentPath", "NeedDaemonReload")
    told = node.run(["systemctl", "show", UNIT, *(f"--property={name}" for name in names)]).stdout
    return dict(line.split("=", 1) for line in told.splitlines())


def own_config(node: Node) -> None:
    """A configuration of theirs: ours with other places."""
    text = node.read("/etc/nydus/snapshotter.toml")
    for name in ("/run/containerd-nydus", "/var/lib/containerd-nydus", "/etc/nydus"):
        text = text.replace(name, f"{name.rpartition('/')[0]}/theirs")
    node.run("cp -r /etc/nydus /etc/theirs")
    node.write(THEIRS, text)
    node.run("mkdir -p /run/theirs")


@pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |BothBad: )",
    LEFT_OVER,
)
def test_somebody_s_own_snapshotter_ends_as_it_was_and_a_running_container_reads_on() -> None:
    with scene.staged("python-nydus", installed=False) as stage:
        node = stage.node
        scene.install_only(node, NO_CHANGE)
        node.write(PACKAGED, FOREIGN)
        node.run(["systemctl", "daemon-reload"])
        idle = unit(node)
        assert (idle["ActiveState"], idle["UnitFileState"]) == ("inactive", "disabled")
        scene.agent(node, "apply", "--now")
        own_config(node)
        scene.agent(node, "remove")
        assert unit(node) == idle

        node.run(["systemctl", "enable", "--now", UNIT])
        node.wait_until(lambda: node.exists(SOCKET), 20, "theirs serves")
        served = unit(node)
        assert (served["ActiveState"], served["UnitFileState"]) == ("active", "enabled")
        scene.agent(node, "apply", "--now")
        assert unit(node)["FragmentPath"] == f"/etc/systemd/system/{UNIT}"
        start_container(node)
        scene.agent(node, "remove", "--force")
        assert unit(node) == served
        pid = node.main_pid(UNIT)
        assert THEIRS in node.read(f"/proc/{pid}/cmdline")
        node.wait_until(lambda: node.exists(SOCKET), 20, "theirs serves")
        assert "ID" in read_in_container(node, "/etc/os-release")
        assert unit(node) == served, "it goes on running"
        end_container(node)


@pytest.mark.allow_warnings(
    # after the boot the test's mirror and registry are gone
    r"^nydus-agent.service: (mirror \w+ -> |BothBad: )",
    LEFT_OVER,
    # The power may go while systemd's child has not become `sleep` yet: it finds that its parent is gone.
    r"^nydus-snapshotter.service: nydus-snapshotter.service: Failed (to send handoff|at step EXEC spawning "
    r"sleep)",
)
def test_a_removal_that_loses_power_while_theirs_starts_has_ours_up_for_containerd() -> None:
    with scene.staged(installed=False) as stage:
        node = stage.node
        scene.install_only(node, NO_CHANGE)
        # Never where containerd looks, and slow to start.
        node.write(
            PACKAGED, re.sub("ExecStart=.*", "ExecStartPre=sleep 3\nExecStart=sleep infinity", FOREIGN)
        )
        node.run(["systemctl", "enable", "--now", UNIT])
        scene.agent(node, "apply", "--now")
        victim = stopped_at(node, f"start {UNIT}", "remove")
        assert unit(node)["FragmentPath"] == PACKAGED
        node.power_cut()
        victim.wait()
        node.wait_until(lambda: unit(node)["ActiveState"] == "active", 20, "the snapshotter is up")
        told = node.run(["journalctl", "-b", f"--unit={UNIT}", "--output=cat"]).stdout
        assert "Started" in told
        assert "somebody's own" not in told, "what systemd had read when the boot began is not what starts"
        now = unit(node)
        assert (now["FragmentPath"], now["NeedDaemonReload"]) == (f"/etc/systemd/system/{UNIT}", "no")
        assert "/var/lib/containerd-nydus" in node.run(["crictl", "imagefsinfo"]).stdout
        scene.agent(node, "remove", "--force")
        assert (unit(node)["FragmentPath"], unit(node)["UnitFileState"]) == (PACKAGED, "enabled")
