"""A node that goes down in the middle of a change: recovered before the runtimes start, and running when they
do.
"""

from __future__ import annotations

import signal

import pytest

from tests.bench.survival.node import Victim, differs, shape
from tests.node import scene
from tests.node.boot import Node
from tests.node.change import CONTAINERD_CONFIG

# After a boot the test's mirror and registry are gone; on a busy machine the agent sees a change in its
# middle.
pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |BothBad: |ChangedSinceProof: )"
)

_JOURNAL = "/var/lib/nydus-agent/journal/open.jsonl"
RECOVER, CONTAINERD, SNAPSHOTTER = (
    "nydus-agent-recover.service",
    "containerd.service",
    "nydus-snapshotter.service",
)


def stopped_at(node: Node, what: str, *words: str) -> Victim:
    """A verb that stands still (SIGSTOP) once it has begun this step and its act is over or under way."""
    victim = Victim(node, *words)
    assert victim.until_journal(), victim.wait()
    place, wanted = node.inside(_JOURNAL), f'"what":"{what}'.encode()

    def begun() -> bool:
        return wanted in place.read_bytes()

    node.wait_until(begun, 60, f"{what} has begun")
    victim.signal(signal.SIGSTOP)
    return victim


def since_boot(node: Node, unit: str, name: str) -> int:
    """Microseconds of CLOCK_MONOTONIC; fails where it did not happen at this boot."""
    found = int(node.show(unit, f"{name}TimestampMonotonic"))
    assert found > 0, f"{unit}: {name} did not happen at this boot"
    return found


def went_first(node: Node) -> None:
    """Recovery was over before anything that reads what it puts back began to start."""
    over = since_boot(node, RECOVER, "ExecMainExit")
    assert node.show(RECOVER, "ExecMainStatus") == "0"
    assert over < since_boot(node, CONTAINERD, "InactiveExit")
    told = node.journal(RECOVER)
    assert "was undone: the node is as it was before" in told, told


def test_a_node_that_loses_power_when_all_is_written_is_recovered_before_containerd_starts(
    bare: Node,
) -> None:
    before = shape(bare)
    victim = stopped_at(bare, "restart containerd.service", "apply", "--now")
    assert "proxy_plugins" in bare.read(CONTAINERD_CONFIG)
    bare.power_cut()
    victim.wait()
    went_first(bare)
    assert differs(shape(bare), before) == ""
    bare.run(["ctr", "version"])
    assert bare.show(SNAPSHOTTER, "ActiveState") == "inactive", (
        "it is not started over and over without its files"
    )
    assert bare.show(SNAPSHOTTER, "NRestarts") in ("", "0")


def test_an_orderly_reboot_in_the_middle_of_the_change_ends_in_the_node_as_it_was(bare: Node) -> None:
    before = shape(bare)
    slow = (
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q proxy_plugins /etc/containerd/config.toml || "
        "sleep 600'\n"
    )
    bare.write("/run/systemd/system/containerd.service.d/50-slow.conf", slow)
    bare.run(["systemctl", "daemon-reload"])
    bare.run(["systemctl", "start", "--no-block", scene.APPLY_UNIT])
    bare.wait_until(lambda: "proxy_plugins" in bare.read(CONTAINERD_CONFIG), 60, "the change is half done")
    bare.reboot()
    assert differs(shape(bare), before) == ""
    bare.run(["ctr", "version"])
    assert not bare.inside(_JOURNAL).exists()


def test_a_removal_that_is_cut_off_is_undone_with_the_snapshotter_up_before_containerd(
    bare: Node,
) -> None:
    scene.agent(bare, "apply", "--now", check=False)
    before = shape(bare)
    assert "proxy_plugins" in bare.read(CONTAINERD_CONFIG)
    victim = stopped_at(bare, "remove /etc/systemd/system/nydus-snapshotter.service", "remove")
    assert "proxy_plugins" not in bare.read(CONTAINERD_CONFIG)
    bare.power_cut()
    victim.wait()
    went_first(bare)
    assert differs(shape(bare), before) == ""
    assert since_boot(bare, SNAPSHOTTER, "ActiveEnter") < since_boot(bare, CONTAINERD, "ActiveEnter")
    assert "/var/lib/containerd-nydus" in bare.run(["crictl", "imagefsinfo"]).stdout
    scene.agent(bare, "remove")
    bare.power_cut()
    assert bare.show(SNAPSHOTTER, "LoadState") == "not-found"
