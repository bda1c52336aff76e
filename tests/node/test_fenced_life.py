"""While the mirror is fenced the agent may be killed, frozen, restarted, upgraded, stopped or purged, the
firewall flushed, the clock set, the node rebooted: a container that reads all the time sees no error, no
connection passes a fence that should stand, and none stands where it should not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.node import parts, scene
from tests.node.boot import Node
from tests.node.detached import DetachedReader
from tests.node.others import Knocker
from tests.node.repack import as_version

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

AGENT, NAME = "nydus-agent.service", "nydus-node-agent"
ENDED = (
    r"^init.scope: (nydus-agent.service: (Main process exited|Failed with|Watchdog timeout|Killing|Start "
    r"request)|Failed to start nydus-agent)"
)
RESTARTS = int(os.environ.get("NYDUS_AGENT_TEST_RESTARTS", "25"))
"""On each of the two routes."""
FLUSHED_S = 0.5
"""The agent looks for its table with each tick, four times a second."""


@contextmanager
def frozen_mirror(stage: scene.Stage) -> Iterator[Knocker]:
    """The mirror is frozen and fenced: only the fence keeps reads from hanging, and whoever gets past it is
    seen.
    """
    stage.mirror.unit.freeze()
    try:
        # Before that the fence is tentative and ends after three seconds.
        wait_for_health_state(stage.node, "down")
        with Knocker(stage.node) as knocker:
            yield knocker
    finally:
        stage.mirror.unit.thaw()


@contextmanager
def killed_mirror(stage: scene.Stage) -> Iterator[None]:
    """The mirror is dead and fenced: without the fence reads find a refusal too, and nydusd's own
    fallback.
    """
    stage.mirror.unit.kill("KILL")
    try:
        scene.wait_for_route(stage.node, "origin", 10)
        yield
    finally:
        stage.mirror.start_again()


def wait_for_health_state(node: Node, wanted: str, deadline_s: float = 15) -> None:
    node.wait_until(
        lambda: scene.daemon_status(node)["health_state"] == wanted, deadline_s, f"the mirror is {wanted}"
    )


def wait_for_successor(node: Node, pid: int, deadline_s: float = 15) -> dict[str, Any]:
    """What another process than `pid` has published."""
    node.wait_until(
        lambda: node.main_pid(AGENT) not in (pid, 0)
        and scene.daemon_status(node)["pid"] == node.main_pid(AGENT),
        deadline_s,
        "another agent publishes",
    )
    return scene.daemon_status(node)


def fenced(node: Node) -> bool:
    """Whether the kernel holds an element of our sets."""
    listed = node.run(["nft", "--json", "list", "ruleset"]).stdout
    sets = [entry["set"] for entry in json.loads(listed)["nftables"] if "set" in entry]
    return any(found.get("elem") for found in sets if found["table"] == "nydus_agent")


def routes(status: dict[str, Any], since: float) -> set[str]:
    """Where reads went since then (epoch seconds), by all agents: the history goes on over their restarts."""
    return {entry["route"] for entry in status["history"] if entry["at"] >= since} | {status["route"]}


# The agent itself


@pytest.mark.allow_warnings(ENDED)
def test_an_agent_killed_while_fenced_is_followed_by_one_that_adopts_the_fence_and_nothing_flips(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    with frozen_mirror(stage) as knocker:
        pid, at, before = stage.node.main_pid(AGENT), time.time(), scene.daemon_status(stage.node)
        stage.node.run(["systemctl", "kill", "--signal=KILL", AGENT])
        status = wait_for_successor(stage.node, pid)
        reader.wait_for(30)
        assert routes(status, at) == {"origin"}
        assert (status["health_state"], status["health_reason"]) == (
            before["health_state"],
            before["health_reason"],
        )
        assert knocker.passed() == []
        assert reader.slowest_ms(at) < 1000


@pytest.mark.allow_warnings(ENDED)
def test_an_agent_frozen_while_fenced_is_restarted_before_the_fence_ends(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    with frozen_mirror(stage) as knocker:
        pid, at = stage.node.main_pid(AGENT), time.time()
        stage.node.run(["systemctl", "kill", "--signal=STOP", AGENT])
        status = wait_for_successor(stage.node, pid)
        took = time.time() - at
        print(f"frozen agent: the next one published after {took:.1f} s")
        reader.wait_for(30)
        assert took < 6
        assert routes(status, at) == {"origin"}
        assert knocker.passed() == []


@contextmanager
def drop_in(node: Node, text: str, health: str = "") -> Iterator[None]:
    """The agent's unit with another setting and another policy, until the end of `with`."""
    paths = {
        f"/run/systemd/system/{AGENT}.d/50-test.conf": text,
        "/etc/nydus-agent/conf.d/60-test.toml": health,
    }
    for path, content in paths.items():
        node.write(path, content)
    try:
        node.run(["systemctl", "daemon-reload"])
        node.run(["systemctl", "restart", AGENT])
        scene.wait_for_route(node, "mirror", 30)
        yield
    finally:
        node.run(["rm", "-f", *paths])
        node.run(["systemctl", "daemon-reload"])
        node.run(["systemctl", "reset-failed", AGENT])
        node.run(["systemctl", "restart", AGENT])


SHORT_LEASE = "[mirror.health]\nlease_ms = 3000\nrenew_ms = 500\n"


def test_an_agent_frozen_beyond_the_lease_leaves_no_fence_and_goes_on_when_it_wakes(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    with drop_in(stage.node, "[Service]\nWatchdogSec=0\n", SHORT_LEASE), killed_mirror(stage):
        pid = stage.node.main_pid(AGENT)
        stage.node.run(["systemctl", "kill", "--signal=STOP", AGENT])
        stage.node.wait_until(lambda: not fenced(stage.node), 6, "the lease has ended by itself")
        reader.wait_for(15)
        stage.node.run(["systemctl", "kill", "--signal=CONT", AGENT])
        stage.node.wait_until(lambda: fenced(stage.node), 3, "the fence is up again")
        reader.wait_for(10)
        assert stage.node.main_pid(AGENT) == pid


@pytest.mark.allow_warnings(ENDED)
def test_an_agent_that_crashes_for_good_leaves_no_fence_and_reads_go_on(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    limit = "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=60\n"
    with drop_in(stage.node, limit, SHORT_LEASE), killed_mirror(stage):

        def given_up() -> bool:
            stage.node.run(["systemctl", "kill", "--signal=KILL", AGENT], check=False)
            return stage.node.run(["systemctl", "is-failed", AGENT], check=False).stdout.strip() == "failed"

        stage.node.wait_until(given_up, 15, "systemd has given the agent up")
        stage.node.wait_until(lambda: not fenced(stage.node), 6, "the lease has ended by itself")
        reader.wait_for(15)
        told = scene.agent(stage.node, "status", check=False).stdout.splitlines()[0]
        assert "agent is not running" in told
        assert "nydusd's own fallback protects reads" in told


def restart(node: Node, times: int) -> None:
    """Restart the agent, as often as somebody wants: its unit has no start limit."""
    for _ in range(times):
        node.run(["systemctl", "restart", AGENT])


def test_restarts_of_the_agent_let_nothing_through_a_fence(stage: scene.Stage, reader: scene.Reader) -> None:
    with frozen_mirror(stage) as knocker:
        at = time.time()
        restart(stage.node, RESTARTS)
        print(f"{RESTARTS} restarts in {time.time() - at:.1f} s, {knocker.knocks()} knocks")
        reader.wait_for(10)
        assert routes(scene.daemon_status(stage.node), at) == {"origin"}
        assert knocker.passed() == []


def test_restarts_of_the_agent_take_no_read_from_a_mirror_that_is_well(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    refused, at = scene.daemon_status(stage.node)["fence"]["refused_connects"], time.time()
    before = stage.mirror.stats()["blob_requests"]
    restart(stage.node, RESTARTS)
    reader.wait_for(15)
    status = scene.daemon_status(stage.node)
    assert routes(status, at) == {"mirror"}
    assert status["fence"]["refused_connects"] == refused == 0
    assert stage.mirror.stats()["blob_requests"] > before


def test_an_upgrade_by_apt_while_fenced_lets_nothing_through(
    stage: scene.Stage, reader: scene.Reader, tmp_path: Path
) -> None:
    snapshotter = stage.node.main_pid("nydus-snapshotter")
    with frozen_mirror(stage) as knocker:
        pid, at = stage.node.main_pid(AGENT), time.time()
        stage.node.install_deb(as_version(scene.deb(), "9.9.9", tmp_path))
        status = wait_for_successor(stage.node, pid)
        reader.wait_for(20)
        assert stage.node.run(["dpkg-query", "--show", "--showformat=${Version}", NAME]).stdout == "9.9.9"
        assert routes(status, at) == {"origin"}
        assert knocker.passed() == []
        assert reader.slowest_ms(at) < 1000
        assert stage.node.main_pid("nydus-snapshotter") == snapshotter


# What others do to the node meanwhile


def test_a_firewall_that_is_reloaded_opens_the_fence_for_a_moment_only(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    acts = (
        ["nft", "flush", "ruleset"],
        ["systemctl", "start", "nftables"],
        ["systemctl", "reload", "nftables"],
    )
    with frozen_mirror(stage) as knocker:
        try:
            for act in acts:
                at, seen = time.monotonic(), len(knocker.passed())
                stage.node.run(act)
                done = time.monotonic()
                stage.node.wait_until(lambda: fenced(stage.node), 3, "the fence is back")
                knocker.wait_for(100)
                through = knocker.passed()[seen:]
                open_ms = (max(through) - min(through)) * 1000 if through else 0.0
                print(f"{' '.join(act)}: {len(through)} knocks passed in {open_ms:.0f} ms")
                assert all(at < knock < done + FLUSHED_S for knock in through)
            reader.wait_for(15)
        finally:
            stage.node.run(["systemctl", "stop", "nftables"])


# The end of the agent, the package, the node


def test_a_stop_gives_a_well_mirror_back_at_once_though_it_was_pinned_away(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    scene.agent(stage.node, "route", "pin", "origin", "--for", "10m", "--reason", "a test")
    try:
        before = stage.mirror.stats()["blob_requests"]
        reader.wait_for(10)
        assert stage.mirror.stats()["blob_requests"] == before
        stage.node.run(["systemctl", "stop", AGENT])
        assert "nydus" not in stage.node.run(["nft", "list", "ruleset"]).stdout
        stage.node.wait_until(
            lambda: stage.mirror.stats()["blob_requests"] > before, 10, "reads go through the mirror again"
        )
        stage.node.run(["systemctl", "start", AGENT])
        scene.wait_for_route(stage.node, "origin", 10)  # a pin outlives the agent
        assert fenced(stage.node)
    finally:
        stage.node.run(["systemctl", "start", AGENT])
        scene.agent(stage.node, "route", "auto")


@pytest.mark.allow_warnings(r"^nydus-agent.service: (BothBad|ReadsGoAround): ")
def test_after_a_reboot_with_a_dead_mirror_reads_come_from_the_origin_by_no_former_fence() -> None:
    with scene.staged("reader-nydus") as stage:
        node, ref = stage.node, stage.ref("reader-nydus")
        scene.pull(node, ref)
        reader = DetachedReader(node, ref)
        reader.wait_for(10)
        stage.mirror.unit.freeze()
        scene.wait_for_route(node, "origin", 10)
        reader.wait_for(10)
        assert reader.errors() == []
        node.reboot()
        registry = parts.start_registry(node)
        with scene.Reader(node, ref, name="after") as after:
            after.wait_for(20)
            scene.wait_for_route(node, "origin", 30)
            after.wait_for(20)
            assert after.errors() == []
        status = scene.daemon_status(node)
        assert status["mode"] == "fence"
        assert "of its lease" not in json.dumps(status["history"])
        assert registry.blob_bytes() > 0
        assert node.failed_units() == []
        parts.start_mirror(node)
        scene.wait_for_route(node, "mirror", 30)
        assert not fenced(node)


@pytest.mark.allow_warnings(r"^nydus-agent.service: BothBad: ")
def test_a_purge_while_fenced_is_refused_with_the_fence_kept_and_a_forced_one_leaves_none() -> None:
    with scene.staged("reader-nydus") as stage:
        node, ref = stage.node, stage.ref("reader-nydus")
        scene.pull(node, ref)
        with DetachedReader(node, ref) as reader:
            reader.wait_for(10)
            with frozen_mirror(stage) as knocker:
                refused = node.run(["apt-get", "--yes", "purge", NAME], check=False, timeout=120)
                assert refused.returncode != 0
                assert "nydus-agent remove --force" in refused.stdout + refused.stderr
                knocker.wait_for(100)
                assert knocker.passed() == []
                reader.wait_for(10)
                assert scene.route(node) == "origin"
            stage.mirror.unit.kill("KILL")
            scene.agent(node, "remove", "--force")
            reader.wait_for(10)
            node.apt("purge", NAME)
            assert "nydus" not in node.run(["nft", "list", "ruleset"]).stdout
            assert not node.exists("/run/nydus-agent")
            reader.wait_for(20)
            assert reader.errors() == []
