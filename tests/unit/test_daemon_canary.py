"""Canaries through a mirror that forwards, lies, hangs or is gone, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.daemon.canaries import CanaryObject, LoopbackCanary, RegistryCanary
from agent.daemon.endpoint import HttpServer, Response
from agent.daemon.http_client import parse_url
from agent.daemon.origins import Origins
from agent.daemon.tasks import task_group
from agent.health.evidence import CanaryFailed, CanaryOk, Failure
from tests.fakes.daemon import FakeNames
from tests.fakes.event_loop import until
from tests.fakes.mirror import SmallMirror, Way
from tests.fakes.registry import SmallRegistry

WINDOW_S = 0.4


@asynccontextmanager
async def canary(
    mirror: SmallMirror, late: list[CanaryOk] | None = None
) -> AsyncIterator[tuple[LoopbackCanary, CanaryObject]]:
    served = CanaryObject()

    def serve(path: str, _query: str) -> Response | None:
        return Response(200, served.body) if path in ("/canary", served.path) else None

    async with task_group() as tasks:
        listener = HttpServer(tasks, serve, broken)
        assert listener.listen_tcp("127.0.0.1", 0) == ""
        served.port = listener.port
        told = late if late is not None else []
        yield LoopbackCanary(tasks, parse_url(mirror.url), served, told.append, cap_s=2.0), served
        listener.close()


def broken(error: Exception) -> None:
    raise error


class TestCanary:
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_the_object_comes_back_through_the_proxy(self, chunked: bool) -> None:
        async with SmallMirror() as mirror, canary(mirror) as (probe, served):
            mirror.chunked = chunked
            assert isinstance(await probe.fetch(WINDOW_S), CanaryOk)
            assert isinstance(await probe.fetch(WINDOW_S), CanaryOk)
            assert mirror.targets[0].endswith(served.path)
            assert mirror.targets[1].endswith("/canary")
            assert mirror.p2p == 1  # at most once in five minutes

    @pytest.mark.parametrize(
        ("way", "failure"),
        [
            (Way.ERROR, Failure.STATUS),
            (Way.LIMITED, Failure.STATUS),
            (Way.ZEROS, Failure.CONTENT),
            (Way.CUT, Failure.CLOSED),
            (Way.CLOSE, Failure.CLOSED),
            (Way.RESET, Failure.RESET),
            (Way.NOISE, Failure.CONTENT),
            (Way.HANG, Failure.SILENT),
        ],
    )
    async def test_a_data_path_that_fails_is_told_apart(self, way: Way, failure: Failure) -> None:
        async with SmallMirror() as mirror, canary(mirror) as (probe, _):
            mirror.proxy_way = way
            answer = await probe.fetch(WINDOW_S)
            assert isinstance(answer, CanaryFailed)
            assert answer.failure is failure

    async def test_one_lost_canary_is_not_silence(self) -> None:
        async with SmallMirror() as mirror, canary(mirror) as (probe, _):
            mirror.hang_proxy_first = 2
            assert isinstance(await probe.fetch(1.0), CanaryOk)
            assert len(mirror.targets) == 3

    async def test_all_attempts_of_the_rare_canary_take_the_task_path(self) -> None:
        async with SmallMirror() as mirror, canary(mirror) as (probe, served):
            mirror.hang_proxy_first = 5
            assert isinstance(await probe.fetch(0.6), CanaryFailed)
            assert {target.endswith(served.path) for target in mirror.targets} == {True}
            assert mirror.p2p == 5

    async def test_a_late_canary_is_told_too(self) -> None:
        late: list[CanaryOk] = []
        async with SmallMirror() as mirror, canary(mirror, late) as (probe, _):
            mirror.delay_s = 0.7
            assert isinstance(await probe.fetch(WINDOW_S), CanaryFailed)
            await until(lambda: bool(late))
            assert late[0].latency_s >= 0.7

    async def test_a_body_that_trickles_is_silence_and_no_late_answer(self) -> None:
        late: list[CanaryOk] = []
        async with SmallMirror() as mirror, canary(mirror, late) as (probe, _):
            mirror.proxy_way = Way.TRICKLE
            for window_s in (1.9, WINDOW_S):
                answer = await probe.fetch(window_s)
                assert isinstance(answer, CanaryFailed)
                assert answer.failure is Failure.SILENT
            await asyncio.sleep(1.2)
            assert late == []

    async def test_without_a_listener_of_our_own_nothing_is_said_about_the_mirror(self) -> None:
        async with SmallMirror() as mirror, canary(mirror) as (probe, served):
            served.port = None
            assert await probe.fetch(WINDOW_S) is None
            assert mirror.accepted == 0

    @pytest.mark.parametrize("way", [Way.ERROR, Way.CLOSE, Way.RESET, Way.HANG])
    async def test_a_canary_that_nobody_could_fetch_from_us_accuses_nobody(self, way: Way) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            async with SmallMirror() as mirror, canary(mirror) as (probe, served):
                served.port, mirror.proxy_way = full.getsockname()[1], way
                with socket.create_connection(full.getsockname()):  # there is no room for another one
                    answer = await probe.fetch(WINDOW_S)
                assert isinstance(answer, CanaryFailed)
                assert answer.failure is Failure.WANT

    def test_each_run_has_an_object_and_a_path_of_its_own(self) -> None:
        first, second = CanaryObject(), CanaryObject()
        assert first.body != second.body
        assert first.path != second.path


@asynccontextmanager
async def registry_canary(mirror: SmallMirror) -> AsyncIterator[tuple[RegistryCanary, SmallRegistry]]:
    async with SmallRegistry() as registry, task_group() as tasks:
        origins = Origins(tasks, (registry.origin,), FakeNames(), lambda _: None, lambda: False)
        mirror.forwards = True
        yield RegistryCanary(tasks, parse_url(mirror.url), origins), registry


class TestRegistryCanary:
    """For a mirror that cannot reach the node's loopback."""

    @pytest.mark.parametrize(
        ("status", "mark"), [(200, b""), (401, b"Docker-Distribution-Api-Version: x\r\n")]
    )
    async def test_a_registrys_answer_through_the_mirror_is_a_canary(self, status: int, mark: bytes) -> None:
        async with SmallMirror() as mirror, registry_canary(mirror) as (probe, registry):
            registry.status, registry.mark = status, mark
            assert isinstance(await probe.ask(registry.origin, WINDOW_S), CanaryOk)
            assert mirror.targets == [f"http://{registry.origin.name}/v2/"]

    @pytest.mark.parametrize(
        ("way", "failure"),
        [(Way.LIMITED, Failure.STATUS), (Way.ERROR, Failure.STATUS), (Way.HANG, Failure.SILENT),
         (Way.RESET, Failure.RESET)],
    )  # fmt: skip
    async def test_a_mirror_that_fails_before_a_registry_that_answers_has_failed(
        self, way: Way, failure: Failure
    ) -> None:
        async with SmallMirror() as mirror, registry_canary(mirror) as (probe, registry):
            mirror.proxy_way = way
            answer = await probe.ask(registry.origin, WINDOW_S)
            assert isinstance(answer, CanaryFailed)
            assert answer.failure is failure

    async def test_a_registry_that_is_down_says_nothing_about_the_mirror(self) -> None:
        async with SmallMirror() as mirror, registry_canary(mirror) as (probe, registry):
            origin = registry.origin
            registry.close()
            assert await probe.ask(origin, WINDOW_S) is None

    @pytest.mark.parametrize("status", [429, 403, 401])
    async def test_what_the_registry_answers_without_the_mirror_too_is_its_own(self, status: int) -> None:
        async with SmallMirror() as mirror, registry_canary(mirror) as (probe, registry):
            registry.status, registry.mark = status, b""
            assert await probe.ask(registry.origin, WINDOW_S) is None
