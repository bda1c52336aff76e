"""Probes against a mirror that answers, lies, hangs or is gone, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from agent.daemon.canary import Canary, CanaryObject
from agent.daemon.endpoint import Listener, Response
from agent.daemon.http import Connection, ProbeError, parse_url
from agent.daemon.probes import Pinger, watch_sentinel
from agent.health.evidence import CanaryFailed, CanaryOk, Failure, LoopLate, PingFailed, PingOk, SentinelClosed
from tests.fakes.mirror import SmallMirror, Way

T = TypeVar("T")
WINDOW_S = 0.4


def go(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, within 20 s."""
    return asyncio.run(asyncio.wait_for(work, 20))


def pinger_of(url: str, late: list[PingOk] | None = None) -> Pinger:
    return Pinger(parse_url(url), (late if late is not None else []).append, cap_s=2.0)


class TestPing:
    def test_a_mirror_that_answers_is_alive_and_the_connection_is_kept(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                pinger = pinger_of(mirror.ping_url)
                for _ in range(5):
                    answer = await pinger.round(WINDOW_S)
                    assert isinstance(answer, PingOk)
                    assert answer.latency_s < 0.4
                assert mirror.pings == 5
                assert mirror.accepted == 1
                pinger.close()

        go(work())

    @pytest.mark.parametrize(
        ("way", "failure"),
        [
            (Way.ERROR, Failure.STATUS),
            (Way.LIMITED, Failure.STATUS),
            (Way.RESET, Failure.RESET),
            (Way.CLOSE, Failure.CLOSED),
            (Way.NOISE, Failure.CONTENT),
            (Way.ENDLESS, Failure.CONTENT),
        ],
    )
    def test_a_wrong_answer_fails_at_once(self, way: Way, failure: Failure) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                mirror.ping_way = way
                started = time.monotonic()
                answer = await pinger_of(mirror.ping_url).round(WINDOW_S)
                assert isinstance(answer, PingFailed)
                assert answer.failure is failure
                assert time.monotonic() - started < WINDOW_S

        go(work())

    def test_a_closed_port_is_refused_at_once(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                url = mirror.ping_url
            answer = await pinger_of(url).round(WINDOW_S)
            assert isinstance(answer, PingFailed)
            assert answer.failure is Failure.REFUSED

        go(work())

    def test_silence_ends_with_the_window_after_five_tries(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                mirror.ping_way = Way.HANG
                started = time.monotonic()
                answer = await pinger_of(mirror.ping_url).round(0.6)
                assert isinstance(answer, PingFailed)
                assert answer.failure is Failure.SILENT
                assert 0.55 < time.monotonic() - started < 0.75
                assert mirror.pings == 5

        go(work())

    def test_one_lost_request_is_not_silence(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                mirror.hang_first = 2
                pinger = pinger_of(mirror.ping_url)
                assert isinstance(await pinger.round(1.0), PingOk)
                assert mirror.pings == 3
                pinger.close()

        go(work())

    def test_a_kept_connection_that_the_mirror_has_closed_is_no_failure(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                pinger = pinger_of(mirror.ping_url)
                assert isinstance(await pinger.round(WINDOW_S), PingOk)
                mirror.drop_connections()
                await asyncio.sleep(0)
                assert isinstance(await pinger.round(WINDOW_S), PingOk)
                assert mirror.accepted == 2
                pinger.close()

        go(work())

    def test_an_agent_that_was_late_itself_gives_the_mirror_a_little_more_time(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                mirror.hang_first = 2
                asyncio.get_running_loop().call_later(0.15, time.sleep, 0.4)
                pinger = pinger_of(mirror.ping_url)
                assert isinstance(await pinger.round(WINDOW_S), PingOk)
                pinger.close()

        go(work())

    def test_a_mirror_that_is_silent_then_too_is_silent(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                mirror.ping_way = Way.HANG
                asyncio.get_running_loop().call_later(0.15, time.sleep, 0.4)
                assert isinstance(await pinger_of(mirror.ping_url).round(WINDOW_S), PingFailed)

        go(work())

    def test_an_agent_that_is_late_again_does_not_call_it_silence(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                mirror.ping_way = Way.HANG
                for at in (0.15, 0.6):
                    asyncio.get_running_loop().call_later(at, time.sleep, 0.4)
                answer = await pinger_of(mirror.ping_url).round(WINDOW_S)
                assert isinstance(answer, LoopLate)
                assert answer.late_s > 0.1

        go(work())

    def test_an_https_ping_url_is_asked_only_whether_its_port_accepts(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                url = f"https://127.0.0.1:{mirror.ping_port}/healthy"
                assert isinstance(await pinger_of(url).round(WINDOW_S), PingOk)
                assert mirror.pings == 0

        go(work())


@asynccontextmanager
async def canary(mirror: SmallMirror, late: list[CanaryOk] | None = None) -> AsyncIterator[tuple[Canary, CanaryObject]]:
    served = CanaryObject()
    listener = Listener(lambda path, _: Response(200, served.body) if path in ("/canary", served.path) else None)
    assert await listener.listen_tcp("127.0.0.1", 0) == ""
    yield (
        Canary(
            parse_url(mirror.url), served, lambda: listener.port, (late if late is not None else []).append, cap_s=2.0
        ),
        served,
    )
    listener.close()


class TestCanary:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_the_object_comes_back_through_the_proxy(self, chunked: bool) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror, canary(mirror) as (probe, served):
                mirror.chunked = chunked
                assert isinstance(await probe.fetch(WINDOW_S), CanaryOk)
                assert isinstance(await probe.fetch(WINDOW_S), CanaryOk)
                assert mirror.targets[0].endswith(served.path)
                assert mirror.targets[1].endswith("/canary")
                assert mirror.p2p == 1  # at most once in five minutes

        go(work())

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
    def test_a_data_path_that_fails_is_told_apart(self, way: Way, failure: Failure) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror, canary(mirror) as (probe, _):
                mirror.proxy_way = way
                answer = await probe.fetch(WINDOW_S)
                assert isinstance(answer, CanaryFailed)
                assert answer.failure is failure

        go(work())

    def test_a_body_that_trickles_is_silence_and_no_late_answer(self) -> None:
        async def work() -> None:
            late: list[CanaryOk] = []
            async with SmallMirror() as mirror, canary(mirror, late) as (probe, _):
                mirror.proxy_way = Way.TRICKLE
                for window_s in (1.9, WINDOW_S):
                    answer = await probe.fetch(window_s)
                    assert isinstance(answer, CanaryFailed)
                    assert answer.failure is Failure.SILENT
                await asyncio.sleep(1.2)
                assert late == []

        go(work())

    def test_without_a_listener_of_our_own_nothing_is_said_about_the_mirror(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                told = list[CanaryOk]().append
                probe = Canary(parse_url(mirror.url), CanaryObject(), lambda: None, told, cap_s=2.0)
                assert await probe.fetch(WINDOW_S) is None

        go(work())

    def test_each_run_has_an_object_and_a_path_of_its_own(self) -> None:
        first, second = CanaryObject(), CanaryObject()
        assert first.body != second.body
        assert first.path != second.path


class TestSentinel:
    def test_the_end_of_the_mirror_is_told_within_milliseconds(self) -> None:
        async def work() -> None:
            async with SmallMirror() as mirror:
                told: asyncio.Queue[SentinelClosed] = asyncio.Queue()
                task = asyncio.create_task(watch_sentinel(parse_url(mirror.url), told.put_nowait))
                await until(lambda: mirror.accepted > 0)
                started = time.monotonic()
                await mirror.die()
                event = await told.get()
                assert time.monotonic() - started < 0.1
                assert "ended" in event.detail
                await mirror.revive()
                seen = mirror.accepted
                await until(lambda: mirror.accepted > seen)
                task.cancel()

        go(work())


class TestHttp:
    def test_a_body_that_is_too_long_is_refused_before_it_is_read(self) -> None:
        async def work() -> None:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
                writer.close()

            async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
                connection = await Connection.open("127.0.0.1", server.sockets[0].getsockname()[1])
                with pytest.raises(ProbeError, match="99999999 bytes"):
                    await connection.get("/", "x")
                connection.close()

        go(work())

    @pytest.mark.parametrize(
        ("text", "host", "port", "path"),
        [
            ("http://127.0.0.1:4003/healthy", "127.0.0.1", 4003, "/healthy"),
            ("http://[::1]:4003", "::1", 4003, "/"),
            ("http://localhost/x?y=1", "127.0.0.1", 80, "/x?y=1"),
            ("https://192.0.2.1/", "192.0.2.1", 443, "/"),
        ],
    )
    def test_urls_of_the_configuration(self, text: str, host: str, port: int, path: str) -> None:
        url = parse_url(text)
        assert (url.host, url.port, url.path) == (host, port, path)
        assert url.tls == text.startswith("https")


async def until(done: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Wait for it, looking each 5 ms."""
    async with asyncio.timeout(deadline_s):
        while not done():
            await asyncio.sleep(0.005)
