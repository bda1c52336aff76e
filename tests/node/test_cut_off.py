"""A node that goes down in the middle of a change: recovered before the runtimes start, and running when they
do.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.bench.survival.node import Victim, differs, shape
from tests.node import scene
from tests.node.boot import Node
from tests.node.test_safety import CONTAINERD_CONFIG, NO_CHANGE

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


@pytest.fixture
def node() -> Iterator[Node]:
    with scene.staged("python-nydus", installed=False) as stage:
        scene.install_only(stage.node, NO_CHANGE)
        yield stage.node


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


def show(node: Node, unit: str, name: str) -> str:
    return node.run(["systemctl", "show", f"--property={name}", "--value", unit]).stdout.strip()


def since_boot(node: Node, unit: str, name: str) -> int:
    """Microseconds of CLOCK_MONOTONIC; fails where it did not happen at this boot."""
    found = int(show(node, unit, f"{name}TimestampMonotonic"))
    assert found > 0, f"{unit}: {name} did not happen at this boot"
    return found


def went_first(node: Node) -> None:
    """Recovery was over before anything that reads what it puts back began to start."""
    over = since_boot(node, RECOVER, "ExecMainExit")
    assert show(node, RECOVER, "ExecMainStatus") == "0"
    assert over < since_boot(node, CONTAINERD, "InactiveExit")
    told = node.journal(RECOVER)
    assert "was undone: the node is as it was before" in told, told


def test_a_node_that_loses_power_when_all_is_written_is_recovered_before_containerd_starts(
    node: Node,
) -> None:
    before = shape(node)
    victim = stopped_at(node, "restart containerd.service", "apply", "--now")
    assert "proxy_plugins" in node.read(CONTAINERD_CONFIG)
    node.power_cut()
    victim.wait()
    went_first(node)
    assert differs(shape(node), before) == ""
    node.run(["ctr", "version"])
    assert show(node, SNAPSHOTTER, "ActiveState") == "inactive", (
        "it is not started over and over without its files"
    )
    assert show(node, SNAPSHOTTER, "NRestarts") in ("", "0")


def test_an_orderly_reboot_in_the_middle_of_the_change_ends_in_the_node_as_it_was(node: Node) -> None:
    before = shape(node)
    slow = (
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q proxy_plugins /etc/containerd/config.toml || "
        "sleep 600'\n"
    )
    node.write("/run/systemd/system/containerd.service.d/50-slow.conf", slow)
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "start", "--no-block", scene.APPLY_UNIT])
    node.wait_until(lambda: "proxy_plugins" in node.read(CONTAINERD_CONFIG), 60, "the change is half done")
    node.reboot()
    assert differs(shape(node), before) == ""
    node.run(["ctr", "version"])
    assert not node.inside(_JOURNAL).exists()


def test_a_removal_that_is_cut_off_is_undone_with_the_snapshotter_up_before_containerd(node: Node) -> None:
    scene.agent(node, "apply", "--now", check=False)
    before = shape(node)
    assert "proxy_plugins" in node.read(CONTAINERD_CONFIG)
    victim = stopped_at(node, "remove /etc/systemd/system/nydus-snapshotter.service", "remove")
    assert "proxy_plugins" not in node.read(CONTAINERD_CONFIG)
    node.power_cut()
    victim.wait()
    went_first(node)
    assert differs(shape(node), before) == ""
    assert since_boot(node, SNAPSHOTTER, "ActiveEnter") < since_boot(node, CONTAINERD, "ActiveEnter")
    assert "/var/lib/containerd-nydus" in node.run(["crictl", "imagefsinfo"]).stdout
    scene.agent(node, "remove")
    node.power_cut()
    assert show(node, SNAPSHOTTER, "LoadState") == "not-found"
