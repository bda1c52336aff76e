"""The whole daemon on the loopback: a small mirror that dies, hangs and lies, and a fence of dictionaries."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.model import RegistriesConfig, RegistryHost, Scheme
from agent.errors import FenceError
from agent.facts.node import Listener
from tests.fakes.event_loop import until
from tests.fakes.free_port import free_port
from tests.fakes.mirror import SmallMirror, Way
from tests.fakes.registry import SmallRegistry
from tests.unit.daemon_node import Node, fresh, healthy, running


async def test_a_cold_node_is_served_by_the_mirror_within_a_moment(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        assert node.status["started_at"] <= node.status["health_since"] < node.status["started_at"] + 1
        assert not node.fenced()
        assert node.mirror.p2p == 1


async def test_a_mirror_that_dies_is_fenced_within_milliseconds_and_used_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with healthy(tmp_path) as node:
        await node.mirror.die()
        node.fakes.tables.held.clear()
        assert await until(node.fenced) < 0.05
        await until(node.is_("down", "origin"))
        where = ("127.0.0.1", node.mirror.proxy_port, ("/system.slice/nydus-snapshotter.service",))
        assert where in [ended[:3] for ended in node.fakes.fence.released]
        await node.mirror.revive()
        node.fakes.tables.held[node.mirror.proxy_port] = 0
        await until(node.is_("healthy", "mirror"))
        assert not node.fenced()
        told = [(entry["from"], entry["to"]) for entry in node.status["history"]]
        assert told == [
            ("unknown", "healthy"),
            ("healthy", "suspect"),
            ("suspect", "down"),
            ("down", "probation"),
            ("probation", "healthy"),
        ]


@pytest.mark.parametrize("way", [Way.HANG, Way.ERROR, Way.RESET])
async def test_a_mirror_that_fails_as_a_whole_is_fenced_within_a_window_and_an_interval(
    tmp_path: Path, way: Way
) -> None:
    async with healthy(tmp_path) as node:
        node.mirror.all_fail(way)
        assert await until(node.fenced) < 0.5
        await until(node.is_("down", "origin"))
        node.mirror.all_fail(Way.WELL)
        await until(node.is_("healthy", "mirror"))


@pytest.mark.parametrize("way", [Way.ZEROS, Way.LIMITED, Way.CUT, Way.HANG])
async def test_a_data_path_that_lies_or_hangs_behind_a_good_ping_is_fenced(tmp_path: Path, way: Way) -> None:
    async with healthy(tmp_path) as node:
        node.mirror.proxy_way = way
        assert await until(node.fenced) < 1.5
        await until(node.is_("down", "origin"))
        assert node.status["mirror"]["ping_ok"] is True
        assert node.status["mirror"]["canary_ok"] is False


async def test_a_false_alarm_costs_a_moment(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.mirror.drop_connections()
        await until(lambda: len(node.status["history"]) == 3)
        assert [entry["to"] for entry in node.status["history"]] == ["healthy", "suspect", "healthy"]
        assert not node.fenced()


async def test_a_foreign_listener_on_the_mirrors_port_is_fenced(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.fakes.tables.held[node.mirror.proxy_port] = 1000
        await until(node.is_("down", "origin"))
        assert node.condition("ForeignListener") == "True"
        assert "uid 1000" in node.status["mirror"]["owner_detail"]


async def test_a_pin_with_a_reason_of_any_bytes_is_held_and_told(tmp_path: Path) -> None:
    """A shell's argument may be no text: Python gives half a surrogate pair for each byte of it."""
    async with healthy(tmp_path) as node:
        until_ = time.time() + 60
        reason = "caf\udce9\n\x1b[31m" + "x" * 5000
        node.put(node.places.pin, {"route": "origin", "until": until_, "reason": reason, "by": "\ud800"})
        await until(node.is_("healthy", "origin"))
        assert node.status["pin"]["reason"].startswith("caf\\udce9\\n\\x1b[31mxxx")
        assert node.status["pin"]["by"] == "\\ud800"
        assert "udce9" in (await node.get("/readyz?verbose"))[1]
        assert (await node.get_local("/metrics"))[0] == 200


@pytest.mark.parametrize("place", ["status", "requests"])
async def test_a_file_that_cannot_be_used_costs_the_node_no_watchdog_and_no_fence(
    tmp_path: Path, place: str
) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        name = getattr(node.places, place)
        object.__setattr__(node.places, place, f"{name}\ud800")  # no name of a file
        node.fakes.ledger.bug = "a bug in what is only told"
        async with running(node):
            node.fakes.watch.touch("/etc/nydus/nydusd-config.json")  # root is asked to look
            await asyncio.sleep(16)
            fed = node.fakes.notify.sent.count("WATCHDOG=1")
            await asyncio.sleep(3)
            assert node.fakes.notify.sent.count("WATCHDOG=1") >= fed + 2
            await node.mirror.die()
            await until(node.fenced)


async def test_a_runtime_directory_that_is_gone_or_full_costs_the_node_no_fence(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        run = Path(node.places.status).parent
        run.rmdir()
        run.touch()
        async with running(node):
            await until(lambda: node.fakes.notify.sent.count("WATCHDOG=1") > 1)
            await node.mirror.die()
            await until(node.fenced)
            run.unlink()
            run.mkdir()
            await until(lambda: Path(node.places.api_socket).exists())
            assert "fence" in (await node.get_local("/status"))[1]


async def test_a_bad_origin_keeps_a_bad_mirror_unfenced(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        dead = RegistryHost(f"127.0.0.1:{free_port()}", Scheme.HTTP)
        node.config = replace(node.config, registries=RegistriesConfig(hosts=(dead,)))
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            node.mirror.all_fail(Way.HANG)
            await until(node.is_("down", "mirror"))
            assert not node.fenced()
            await until(lambda: node.condition("BothBad") == "True")
            assert node.status["origins"][0]["ok"] is False


async def test_where_nothing_was_applied_a_missing_mirror_and_a_missing_origin_are_no_problem(
    tmp_path: Path,
) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        dead = RegistryHost(f"127.0.0.1:{free_port()}", Scheme.HTTP)
        node.config = replace(node.config, registries=RegistriesConfig(hosts=(dead,)))
        Path(node.places.effective).unlink()
        mirror.all_fail(Way.RESET)
        async with running(node):
            await until(lambda: node.status["health_state"] in ("suspect", "down"))
            await until(lambda: node.status["origins"][0]["ok"] is False)
            assert node.condition("BothBad") == "False"
            node.apply("fence")
            await until(lambda: node.condition("BothBad") == "True")


async def test_an_origin_that_answers_is_asked_at_once_when_the_mirror_fails(tmp_path: Path) -> None:
    async with SmallMirror() as registry, SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        host = RegistryHost(f"127.0.0.1:{registry.ping_port}", Scheme.HTTP)
        node.config = replace(node.config, registries=RegistriesConfig(hosts=(host,)))
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            asked = registry.pings
            assert asked >= 1
            node.mirror.all_fail(Way.ERROR)
            assert await until(node.fenced) < 0.5
            await until(lambda: registry.pings > asked)


async def test_a_fence_that_was_flushed_away_is_back_within_a_renewal(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.mirror.all_fail(Way.HANG)
        await until(node.is_("down", "origin"))
        node.fakes.fence.flush()
        assert await until(node.fenced) < 0.6


async def test_a_fence_that_nft_refuses_is_never_claimed(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            node.fakes.fence.unavailable = "no permission"
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "mirror"))
            assert "no permission" in node.status["route_reason"]
            node.fakes.fence.unavailable = ""
            await until(node.is_("down", "origin"))


async def test_connections_that_survive_are_told_while_the_fence_holds(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            for nth in range(1, 50):
                node.fakes.fence.faults.at(nth, FenceError("NNA0801", "no", cause="no"), method="release")
            mirror.all_fail(Way.HANG)
            await until(lambda: node.condition("ConnectionsSurvive") == "True")
            assert node.fenced()


async def test_socket_tables_that_cannot_be_read_are_unknown_and_not_down(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.fakes.tables.broken = "permission denied"
        await until(lambda: bool(node.status["mirror"]["owner"] == "unknown"))
        assert node.is_("healthy", "mirror")()


async def test_a_remote_mirror_that_cannot_reach_the_node_is_judged_by_its_pings(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.tables.held.clear()  # nobody listens here: it is elsewhere
        mirror.proxy_way = Way.ERROR  # and canaries do not come back
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            mirror.ping_way = Way.HANG
            await until(node.is_("down", "origin"))


async def test_a_remote_mirror_is_asked_for_a_registry_instead_and_that_counts(tmp_path: Path) -> None:
    async with SmallRegistry() as registry, SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.tables.held.clear()
        mirror.cannot_reach, mirror.forwards = "/canary", True
        host = RegistryHost(registry.origin.name, Scheme.HTTP)
        node.config = replace(node.config, registries=RegistriesConfig(hosts=(host,)))
        async with running(node):
            await until(lambda: node.status["mirror"]["canary_ok"] is True)
            assert mirror.targets[-1] == f"http://{registry.origin.name}/v2/"
            mirror.ping_way = Way.HANG
            await until(lambda: node.condition("PingFails") == "True")  # the registry's canary has refuted it
            assert node.is_("healthy", "mirror")()
            mirror.ping_way = Way.WELL
            await until(lambda: node.condition("PingFails") == "False")
            mirror.all_fail(Way.RESET)
            await until(node.is_("down", "origin"))


async def test_a_mirror_that_comes_up_here_later_is_asked_for_the_canary_at_once(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.tables.held.clear()
        await mirror.die()
        async with running(node):
            await until(lambda: node.status["mirror"]["ping_ok"] is False)
            since = time.monotonic()
            # Canaries from the loopback are seldom by now.
            await until(lambda: time.monotonic() - since > 1.5)
            await mirror.revive()
            node.fakes.tables.held[mirror.proxy_port] = 0
            assert await until(node.is_("healthy", "mirror")) < 2.5
            assert node.status["mirror"]["canary_ok"] is True


async def test_a_line_of_nydusds_moves_the_route_at_once(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        await until(lambda: node.status["symptoms"]["watching"])
        node.fakes.journal.write(
            'Read from backend failed: Registry(Request(ErrorWithMsg(""))), retry count 3'
        )
        assert await until(node.fenced) < 0.1
        await until(node.is_("suspect", "origin"))
        assert node.status["symptoms"]["counts"]["status"] == 1
        assert node.status["health_cause"] == "symptom"
        await until(node.is_("healthy", "mirror"))  # the data path is well, as canaries show


async def test_lines_that_the_journal_dropped_are_told_as_unknown(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        node.fakes.journal.write("", dropped=300)
        await until(lambda: node.condition("SymptomsUnknown") == "True")
        assert node.is_("healthy", "mirror")()


@pytest.mark.parametrize("how", ["ended", "stopped"])
async def test_the_end_of_the_mirrors_process_fences_at_once(tmp_path: Path, how: str) -> None:
    async with healthy(tmp_path) as node:
        port = node.mirror.proxy_port
        assert node.fakes.mirror_processes.followed == [Listener("127.0.0.1", port, 0, 1000 + port)]
        if how == "ended":
            node.fakes.tables.held.clear()
            node.fakes.mirror_processes.end("dfdaemon (pid 7)")
        else:
            node.mirror.all_fail(Way.HANG)
            node.fakes.mirror_processes.stop("its cgroup is frozen")
        assert await until(node.fenced) < 0.1
        await until(lambda: any(entry["cause"] in ("ended", "owner") for entry in node.status["history"]))
