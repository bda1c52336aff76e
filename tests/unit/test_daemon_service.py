"""The whole daemon on the loopback: a small mirror that dies, hangs and lies, and a fence of dictionaries."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.config.model import (
    Config,
    EndpointConfig,
    FleetConfig,
    HealthConfig,
    MirrorConfig,
    RegistriesConfig,
    RegistryHost,
    Scheme,
)
from agent.daemon.service import Service
from agent.daemon.settings import Places
from agent.errors import ConfigError, FenceError
from agent.node.facts import FenceAbility
from tests.fakes.daemon import FakeDaemonPorts
from tests.fakes.mirror import SmallMirror, Way

T = TypeVar("T")
HEALTH = HealthConfig(
    interval_ms=50, window_ms=200, rise=3, dwell_ms=300, canary_interval_ms=200, tentative_ms=2000, renew_ms=200
)


def go(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, within 30 s."""
    return asyncio.run(asyncio.wait_for(work, 30))


class Node:
    """A daemon with its surroundings. What root's verbs would leave is written to `root`."""

    def __init__(self, root: Path, mirror: SmallMirror) -> None:
        self.root = root
        self.mirror = mirror
        self.fakes = FakeDaemonPorts()
        self.fakes.tables.held = {mirror.proxy_port: 0, mirror.ping_port: 0}
        self.config = Config(
            mirror=MirrorConfig(url=mirror.url, ping_url=mirror.ping_url, health=HEALTH),
            endpoint=EndpointConfig(port=free_port()),
            fleet=FleetConfig(return_window_s=0),
        )
        self.config_error: ConfigError | None = None
        self.places = Places.below(str(root))
        for place in (self.places.status, self.places.effective):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        self.apply("fence")

    def load(self) -> Config:
        if self.config_error is not None:
            raise self.config_error
        return self.config

    def apply(self, switch: str, **more: object) -> None:
        """As if `apply` had set the node up."""
        document = {"switch": switch, "reasons": [f"set to {switch}"], **more}
        self.put(self.places.effective, document)

    def put(self, place: str, document: object) -> None:
        Path(place + ".new").write_text(json.dumps(document))
        Path(place + ".new").rename(place)

    @property
    def status(self) -> dict[str, Any]:
        try:
            found = json.loads(Path(self.places.status).read_bytes())
        except FileNotFoundError:
            return {}
        assert isinstance(found, dict)
        return found

    def fenced(self) -> bool:
        return bool(self.fakes.fence.fenced())

    def is_(self, verdict: str, route: str) -> Callable[[], bool]:
        return lambda: (self.status.get("verdict"), self.status.get("route")) == (verdict, route)

    def condition(self, kind: str) -> str:
        return str({item["type"]: item["status"] for item in self.status["conditions"]}[kind])

    async def get(self, path: str) -> tuple[int, str]:
        """From the TCP endpoint."""
        return await self._ask(await asyncio.open_connection("127.0.0.1", self.config.endpoint.port), path)

    async def get_local(self, path: str) -> tuple[int, str]:
        """From the unix socket."""
        return await self._ask(await asyncio.open_unix_connection(self.places.api_socket), path)

    async def _ask(self, pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str) -> tuple[int, str]:
        reader, writer = pair
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.config.endpoint.port}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split(b" ")[1]), body.decode("utf-8", "replace")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    """The daemon runs inside; it ends by SIGTERM, as systemd does it."""
    task = asyncio.create_task(Service(node.load, node.fakes.ports(), node.places).run())
    try:
        await until(lambda: task.done() or "READY=1" in node.fakes.notify.sent)
        yield node
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 5)
        node.fakes.close()


@asynccontextmanager
async def healthy(root: Path) -> AsyncIterator[Node]:
    async with SmallMirror() as mirror, running(Node(root, mirror)) as node:
        await until(node.is_("healthy", "mirror"))
        yield node


async def until(done: Callable[[], bool], deadline_s: float = 10.0) -> float:
    """Wait for it, looking each 2 ms; how long it took."""
    started = time.monotonic()
    async with asyncio.timeout(deadline_s):
        while not done():
            await asyncio.sleep(0.002)
    return time.monotonic() - started


def test_a_cold_node_is_served_by_the_mirror_within_a_moment(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            assert node.status["started_at"] <= node.status["verdict_since"] < node.status["started_at"] + 1
            assert not node.fenced()
            assert node.mirror.p2p == 1

    go(work())


def test_a_mirror_that_dies_is_fenced_within_milliseconds_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    async def work() -> None:
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

    go(work())


@pytest.mark.parametrize("way", [Way.HANG, Way.ERROR, Way.RESET])
def test_a_mirror_that_fails_as_a_whole_is_fenced_within_a_window_and_an_interval(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.mirror.all_fail(way)
            assert await until(node.fenced) < 0.5
            await until(node.is_("down", "origin"))
            node.mirror.all_fail(Way.WELL)
            await until(node.is_("healthy", "mirror"))

    go(work())


@pytest.mark.parametrize("way", [Way.ZEROS, Way.LIMITED, Way.CUT, Way.HANG])
def test_a_data_path_that_lies_or_hangs_behind_a_good_ping_is_fenced(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.mirror.proxy_way = way
            assert await until(node.fenced) < 1.5
            await until(node.is_("down", "origin"))
            assert node.status["mirror"]["ping_ok"] is True
            assert node.status["mirror"]["canary_ok"] is False

    go(work())


def test_a_false_alarm_costs_a_moment(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.mirror.drop_connections()
            await until(lambda: len(node.status["history"]) == 3)
            assert [entry["to"] for entry in node.status["history"]] == ["healthy", "suspect", "healthy"]
            assert not node.fenced()

    go(work())


def test_a_foreign_listener_on_the_mirrors_port_is_fenced(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.fakes.tables.held[node.mirror.proxy_port] = 1000
            await until(node.is_("down", "origin"))
            assert node.condition("ForeignListener") == "True"
            assert "uid 1000" in node.status["mirror"]["owner_detail"]

    go(work())


def test_a_bad_origin_keeps_a_bad_mirror_unfenced(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            dead = RegistryHost(f"127.0.0.1:{free_port()}", Scheme.HTTP)
            node.config = replace(node.config, registries=RegistriesConfig(hosts=(dead,)))
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                node.mirror.all_fail(Way.HANG)
                await until(node.is_("down", "mirror"))
                assert not node.fenced()
                await until(lambda: node.condition("BothBad") == "True")
                assert node.status["origins"][0]["ok"] is False

    go(work())


def test_an_origin_that_answers_is_asked_at_once_when_the_mirror_fails(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as registry, SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            host = RegistryHost(f"127.0.0.1:{registry.ping_port}", Scheme.HTTP)
            node.config = replace(node.config, registries=RegistriesConfig(hosts=(host,)))
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                asked = registry.pings
                assert asked >= 1
                node.mirror.all_fail(Way.ERROR)
                assert await until(node.fenced) < 0.5
                await until(lambda: registry.pings > asked)

    go(work())


def test_a_restart_keeps_the_fence_and_the_next_run_adopts_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            node.fakes.processes.on("systemctl", "list-jobs", stdout="123 nydus-agent.service restart running\n")
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                mirror.all_fail(Way.HANG)
                await until(node.is_("down", "origin"))
            assert node.fenced()
            assert node.fakes.notify.sent[-1] == "STOPPING=1"
            again = Node(tmp_path, mirror)
            again.fakes.fence = node.fakes.fence
            async with running(again):
                assert again.fenced()
                assert again.is_("down", "origin")()
                mirror.all_fail(Way.WELL)
                await until(again.is_("healthy", "mirror"))
                told = [entry["to"] for entry in again.status["history"]]
                assert told[-5:] == ["down", "unknown", "down", "probation", "healthy"], "a restart is told as such"

    go(work())


@pytest.mark.parametrize("jobs", ["123 nydus-agent.service stop running\n", ""])
def test_a_stop_leaves_the_node_as_it_would_be_without_us(tmp_path: Path, jobs: str) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            node.fakes.processes.on("systemctl", "list-jobs", stdout=jobs)
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                mirror.all_fail(Way.HANG)
                await until(node.is_("down", "origin"))
            assert not node.fenced()
            assert not node.fakes.fence.table

    go(work())


def test_a_fence_that_was_flushed_away_is_back_within_a_renewal(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
            node.fakes.fence.flush()
            assert await until(node.fenced) < 0.6

    go(work())


def test_nothing_is_fenced_before_anything_was_applied_and_the_mode_follows_apply(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
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

    go(work())


def test_where_the_self_test_fails_the_mode_is_native_and_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            node.fakes.fence.ability = FenceAbility(usable=False, reason="a load balancer rewrites addresses")
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                assert node.status["mode"] == "native"
                assert "load balancer" in node.status["mode_reason"]
                assert node.condition("FenceUnusable") == "True"
                mirror.all_fail(Way.HANG)
                await until(node.is_("down", "origin"))
                assert not node.fenced()

    go(work())


def test_a_fence_that_nft_refuses_is_never_claimed(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                node.fakes.fence.unavailable = "no permission"
                mirror.all_fail(Way.HANG)
                await until(node.is_("down", "mirror"))
                assert "no permission" in node.status["route_reason"]
                node.fakes.fence.unavailable = ""
                await until(node.is_("down", "origin"))

    go(work())


def test_connections_that_survive_are_told_while_the_fence_holds(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                for nth in range(1, 50):
                    node.fakes.fence.faults.at(nth, FenceError("NNA0802", "no", cause="no"), method="release")
                mirror.all_fail(Way.HANG)
                await until(lambda: node.condition("ConnectionsSurvive") == "True")
                assert node.fenced()

    go(work())


def test_the_operators_pin_holds_the_route_until_it_ends(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            until_s = time.time() + 2.5
            node.put(node.places.pin, {"route": "origin", "until": until_s, "reason": "upgrade", "by": "root"})
            await until(node.is_("healthy", "origin"))
            assert node.fenced()
            assert node.status["pin"]["reason"] == "upgrade"
            await until(node.is_("healthy", "mirror"))
            assert time.time() >= until_s

    go(work())


def test_a_wrong_configuration_keeps_the_old_one_and_a_right_one_is_taken(tmp_path: Path) -> None:
    async def work() -> None:
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

    go(work())


def test_the_fence_follows_apply_to_another_mirror(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node, SmallMirror() as other:
            node.mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
            node.fakes.tables.held[other.proxy_port] = 0
            node.apply("fence", mirror_url=other.url, ping_url=other.ping_url)
            await until(node.is_("healthy", "mirror"))
            assert not node.fenced()
            assert node.status["mirror"]["url"] == other.url

    go(work())


def test_the_endpoint_and_the_socket_answer(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            assert await node.get("/livez") == (200, "ok\n")
            status, text = await node.get("/readyz?verbose")
            assert status == 503  # nobody has climbed the ladder of proof
            assert "[-]proof failed" in text
            node.put(node.places.climb, {"at": time.time(), "rungs": [{"number": 1, "state": "ok"}]})
            async with asyncio.timeout(5):
                while (await node.get("/readyz"))[0] != 200:
                    await asyncio.sleep(0.05)
            assert (await node.get("/status"))[0] == 404
            assert (await node.get("/metrics"))[0] == 404
            assert json.loads((await node.get_local("/status"))[1])["verdict"] == "healthy"
            assert "nydus_agent_route" in (await node.get_local("/metrics"))[1]
            assert len((await node.get_local("/livez"))[1]) > 0

    go(work())


def test_a_taken_port_is_told_with_its_holder_and_the_node_is_protected_all_the_same(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror, SmallMirror() as squatter:
            node = Node(tmp_path, mirror)
            node.config = replace(node.config, endpoint=EndpointConfig(port=squatter.ping_port))
            node.fakes.tables.held[squatter.ping_port] = 1000
            async with running(node):
                await until(node.is_("healthy", "mirror"))  # the canary is served from a spare port
                assert node.condition("EndpointPortTaken") == "True"
                message = next(c["message"] for c in node.status["conditions"] if c["type"] == "EndpointPortTaken")
                assert "squatter (pid" in message
                await mirror.die()
                await until(node.fenced)

    go(work())


def test_a_changed_file_asks_root_to_look_and_what_root_saw_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.fakes.watch.touch("/etc/nydus/nydusd-config.json")
            await until((Path(node.places.requests) / "drift").exists)
            node.put(node.places.climb, {"at": time.time(), "rungs": [], "drift": ["the template was edited"]})
            await until(lambda: node.condition("Drift") == "True")

    go(work())


def test_the_watchdog_is_fed_each_second_from_the_loop(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.fakes.notify.sent.clear()
            await until(lambda: node.fakes.notify.sent.count("WATCHDOG=1") >= 2, 3.5)
            assert node.fakes.notify.sent.count("STATUS=") == 0

    go(work())


def test_a_bug_in_one_event_does_not_end_the_protection(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.fakes.fence.faults.at(1, RuntimeError("a bug"), method="renew")
            await node.mirror.die()
            await until(node.fenced)
            assert "nydus_agent_internal_errors_total 1" in (await node.get_local("/metrics"))[1]

    go(work())


def test_socket_tables_that_cannot_be_read_are_unknown_and_not_down(tmp_path: Path) -> None:
    async def work() -> None:
        async with healthy(tmp_path) as node:
            node.fakes.tables.broken = "permission denied"
            await until(lambda: bool(node.status["mirror"]["owner"] == "unknown"))
            assert node.is_("healthy", "mirror")()

    go(work())


def test_a_remote_mirror_that_cannot_reach_the_node_is_judged_by_its_pings(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(tmp_path, mirror)
            node.fakes.tables.held.clear()  # nobody listens here: it is elsewhere
            mirror.proxy_way = Way.ERROR  # and canaries do not come back
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                mirror.ping_way = Way.HANG
                await until(node.is_("down", "origin"))

    go(work())
