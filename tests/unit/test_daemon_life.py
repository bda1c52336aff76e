"""The daemon's life: start, reload, stop and restart, what `apply` and the operator tell it, what it
serves.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.codec import to_document, to_json
from agent.config.model import EndpointConfig
from agent.documents.drift import Expected, Finding, Kind, Remedy
from agent.documents.status import ProofDocument
from agent.errors import ConfigError
from agent.facts.node import FenceAbility
from tests.fakes.event_loop import until
from tests.fakes.mirror import SmallMirror, Way
from tests.unit.daemon_node import Node, fresh, healthy, running


async def test_a_restart_keeps_the_fence_and_the_next_run_adopts_it(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.processes.on("systemctl", "list-jobs", stdout="123 nydus-agent.service restart running\n")
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
        assert node.fenced()
        assert node.fakes.notify.sent[-1] == "STOPPING=1"
        again = Node(node.root, mirror)
        again.fakes.fence = node.fakes.fence
        async with running(again):
            assert again.fenced()
            assert again.is_("down", "origin")()
            mirror.all_fail(Way.WELL)
            await until(again.is_("healthy", "mirror"))
            told = [entry["to"] for entry in again.status["history"]]
            moves = [entry for entry in again.status["history"] if entry["route_from"] != entry["route"]]
            assert [entry["cause"] for entry in moves][-2:] == ["silent", "recovered"], (
                "the restart moved nothing"
            )
            assert told[-5:] == ["suspect", "down", "down", "probation", "healthy"], (
                "a restart is told as such"
            )


@pytest.mark.parametrize("jobs", ["123 nydus-agent.service stop running\n", ""])
async def test_a_stop_leaves_the_node_as_it_would_be_without_us(tmp_path: Path, jobs: str) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.processes.on("systemctl", "list-jobs", stdout=jobs)
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
        assert not node.fenced()
        assert not node.fakes.fence.table


async def test_nothing_is_fenced_before_anything_was_applied_and_the_mode_follows_apply(
    tmp_path: Path,
) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        Path(node.places.effective).unlink()
        async with running(node):
            await until(node.is_("healthy", "origin"))
            assert node.status["mode"] == "unknown"
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
            assert not node.fenced()
            node.apply("fence")
            await until(node.fenced)
            node.apply("native")
            await until(lambda: not node.fenced())
            assert node.status["mode"] == "native"


async def test_where_the_self_test_fails_the_mode_is_native_and_says_so(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.fence.ability = FenceAbility(usable=False, reason="a load balancer rewrites addresses")
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            assert node.status["mode"] == "native"
            assert "load balancer" in node.status["mode_reason"]
            assert node.condition("FenceUnusable") == "True"
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
            assert not node.fenced()


async def test_the_operators_pin_holds_the_route_until_it_ends(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        until_s = time.time() + 2.5
        node.put(node.places.pin, {"route": "origin", "until": until_s, "reason": "upgrade", "by": "root"})
        await until(node.is_("healthy", "origin"))
        assert node.fenced()
        assert node.status["pin"]["reason"] == "upgrade"
        await until(node.is_("healthy", "mirror"))
        assert time.time() >= until_s


async def test_a_wrong_configuration_keeps_the_old_one_and_a_right_one_is_taken(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.config_error = ConfigError("NNA0101", "configuration is wrong", ())
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: node.condition("ConfigInvalid") == "True")
        await until(node.is_("healthy", "mirror"))
        async with SmallMirror() as other:
            node.config_error = None
            node.fakes.tables.held[other.proxy_port] = 0
            mirror = replace(node.config.mirror, url=other.url, ping_url=other.ping_url)
            node.config = replace(node.config, mirror=mirror)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: node.condition("ConfigInvalid") == "False")
            await until(lambda: bool(node.status["mirror"]["url"] == other.url))
            await until(node.is_("healthy", "mirror"))
        sent = node.fakes.notify.sent
        assert "RELOADING=1" in sent
        assert sent.index("RELOADING=1") < len(sent) - 1 - sent[::-1].index("READY=1")


async def test_a_stop_that_comes_right_after_a_reload_is_not_lost(tmp_path: Path) -> None:
    started = time.monotonic()
    async with healthy(tmp_path):
        os.kill(os.getpid(), signal.SIGHUP)
    # `healthy` ends by SIGTERM, in the same turn, and does not wait for long
    assert time.monotonic() - started < 5


async def test_reloads_leave_nothing_of_the_session_before_behind(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        held = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            node.fakes.notify.sent.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: "READY=1" in node.fakes.notify.sent)
            await until(node.is_("healthy", "mirror"))
        await until(lambda: len(os.listdir("/proc/self/fd")) <= held)
        await node.mirror.die()
        assert await until(node.fenced) < 0.05, "the present session guards"


async def test_a_wrong_configuration_at_the_start_leaves_the_applied_mirror_guarded(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.apply("fence", mirror_url=mirror.url, ping_url=mirror.ping_url)
        node.fakes.tables.held[mirror.proxy_port] = 1000  # the mirror's user is in the configuration
        node.config_error = ConfigError("NNA0101", "configuration is wrong", ())
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            assert node.condition("ConfigInvalid") == "True"
            mirror.all_fail(Way.RESET)
            await until(node.fenced)
            node.config_error = None
            node.config = replace(node.config, mirror=replace(node.config.mirror, user="1000"))
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: node.condition("ConfigInvalid") == "False")
            assert node.fenced()
            mirror.all_fail(Way.WELL)
            await until(node.is_("healthy", "mirror"))
            assert node.status["mirror"]["owner"] == "ok"


async def test_the_fence_follows_apply_to_another_mirror(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node, SmallMirror() as other:
        node.mirror.all_fail(Way.HANG)
        await until(node.is_("down", "origin"))
        node.fakes.tables.held[other.proxy_port] = 0
        node.apply("fence", mirror_url=other.url, ping_url=other.ping_url)
        await until(node.is_("healthy", "mirror"))
        assert not node.fenced()
        assert node.status["mirror"]["url"] == other.url


async def test_the_endpoint_and_the_socket_answer(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        assert await node.get("/livez") == (200, "ok\n")
        status, text = await node.get("/readyz?verbose")
        assert status == 503  # nobody has run the checks
        assert "[-]proof failed" in text
        node.put(node.places.proof, to_json(ProofDocument(time.time())))
        async with asyncio.timeout(60):
            while (await node.get("/readyz"))[0] != 200:
                await asyncio.sleep(0.05)
        assert (await node.get("/status"))[0] == 404
        assert (await node.get("/metrics"))[0] == 404
        assert json.loads((await node.get_local("/status"))[1])["health_state"] == "healthy"
        assert "nydus_agent_route" in (await node.get_local("/metrics"))[1]
        assert len((await node.get_local("/livez"))[1]) > 0


async def test_a_taken_port_is_told_with_its_holder_and_the_node_is_protected_all_the_same(
    tmp_path: Path,
) -> None:
    async with SmallMirror() as mirror, SmallMirror() as squatter:
        node = Node(fresh(tmp_path), mirror)
        node.config = replace(node.config, endpoint=EndpointConfig(port=squatter.ping_port))
        node.fakes.tables.held[squatter.ping_port] = 1000
        async with running(node):
            await until(node.is_("healthy", "mirror"))  # the canary is served from a spare port
            assert node.condition("EndpointPortTaken") == "True"
            message = next(
                c["message"] for c in node.status["conditions"] if c["type"] == "EndpointPortTaken"
            )
            assert "squatter (pid" in message
            await mirror.die()
            await until(node.fenced)


async def test_a_changed_file_asks_root_to_look_and_what_root_saw_is_told(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.put(node.places.expected, to_document(Expected(1)))
        node.fakes.watch.touch("/etc/nydus/nydusd-config.json")
        await until((Path(node.places.requests) / "drift").exists)
        down = Finding(Kind.UNIT_DOWN, "x.service", "x.service does not run", Remedy.REPAIR, "x")
        node.put(node.places.drift, {"findings": to_json([down])})
        node.fakes.watch.touch(node.places.drift)
        await until(lambda: node.condition("Drift") == "True", 0.5)
        assert [one["kind"] for one in node.status["drift"]] == ["unit-down"]
        assert "does not run" in node.status["history"][-1]["reason"]
        node.put(node.places.drift, {"findings": []})
        node.fakes.watch.touch(node.places.drift)
        await until(lambda: node.condition("Drift") == "False", 0.5)
        assert 'nydus_agent_drift{kind="unit-down"} 0' in (await node.get_local("/metrics"))[1]


async def test_the_watchdog_is_fed_each_second_from_the_loop(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.fakes.notify.sent.clear()
        await until(lambda: node.fakes.notify.sent.count("WATCHDOG=1") >= 2, 3.5)
        assert node.fakes.notify.sent.count("STATUS=") == 0


async def test_a_bug_in_one_event_does_not_end_the_protection(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.fakes.fence.faults.at(1, RuntimeError("a bug"), method="renew")
        await node.mirror.die()
        await until(node.fenced)
        assert "nydus_agent_internal_errors_total 1" in (await node.get_local("/metrics"))[1]


async def test_a_bug_that_would_stop_the_probes_ends_the_daemon_to_be_started_anew(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.fakes.tables.bug = "a bug"
            await asyncio.sleep(60)  # ended by it

    with pytest.raises(RuntimeError, match="a bug"):
        await work()
