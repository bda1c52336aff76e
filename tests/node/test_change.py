"""A change that is killed, interrupted, cut off or refused: the node is the old one or the new one, never
mixed.
"""

from __future__ import annotations

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import (
    CONTAINERD_CONFIG,
    end_container,
    held_change,
    let_go,
    pid_of_apply,
    read_in_container,
    start_container,
    state,
    tree,
)

# On a machine with much other work the agent sees a change in its middle.
pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: ChangedSinceProof: ",
    r"^nydus-agent.service: Drift: /usr/local/bin/containerd is gone",  # what held a change
)


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
    process = held_change(plain)
    plain.run(["kill", f"-{name}", pid_of_apply(plain)])
    told = let_go(plain, process)
    assert process.returncode == 1
    assert f"SIG{name} was received" in told
    assert "the node is as it was before" in told


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


def test_a_forced_removal_does_not_pull_the_ground_from_under_a_running_container(bare: Node) -> None:
    scene.agent(bare, "apply")
    start_container(bare)
    removed = scene.agent(bare, "remove", "--force")
    assert "running containers stand on them" in removed.stdout
    assert "ID" in read_in_container(bare, "/etc/os-release")
    end_container(bare)
