"""Probes against a mirror that answers, lies, hangs or is gone, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress

import pytest

from agent.daemon.http_client import Connection, ProbeError, ignore, parse_url
from agent.daemon.probes import Pinger, Sentinel
from agent.daemon.tasks import task_group
from agent.health.evidence import Failure, LoopLate, PingFailed, PingOk, SentinelClosed
from tests.fakes.event_loop import daemons_tasks, until
from tests.fakes.mirror import SmallMirror, Way
from tests.node.inside import odd

WINDOW_S = 0.4


@asynccontextmanager
async def pinging(url: str, late: list[PingOk] | None = None, cap_s: float = 2.0) -> AsyncIterator[Pinger]:
    """A pinger of the URL; what it still waits for is given up at the end."""
    async with task_group() as tasks:
        pinger = Pinger(tasks, parse_url(url), (late if late is not None else []).append, cap_s=cap_s)
        yield pinger
        pinger.close()


@contextmanager
def odd_server(odd_answer: odd.Answer) -> Iterator[str]:
    """The URL of a server that gives this answer to everybody."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=give, args=(listener.accept()[0],), daemon=True).start()

    def give(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.recv(65536)
            odd.answer(client, (odd_answer,))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/healthy"
        listener.shutdown(socket.SHUT_RDWR)


class TestPing:
    async def test_a_mirror_that_answers_is_alive_and_the_connection_is_kept(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            for _ in range(5):
                answer = await pinger.ping(WINDOW_S)
                assert isinstance(answer, PingOk)
                assert answer.latency_s < WINDOW_S
            assert mirror.pings == 5
            assert mirror.accepted == 1

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
    async def test_a_wrong_answer_fails_at_once(self, way: Way, failure: Failure) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            mirror.ping_way = way
            started = time.monotonic()
            answer = await pinger.ping(WINDOW_S)
            assert isinstance(answer, PingFailed)
            assert answer.failure is failure
            assert time.monotonic() - started < WINDOW_S

    @pytest.mark.parametrize("odd_answer", odd.OF_A_PING)
    async def test_an_answer_that_nydusd_takes_for_healthy_is_good_however_odd_its_body(
        self, odd_answer: odd.Answer
    ) -> None:
        with odd_server(odd_answer) as url:
            async with pinging(url) as pinger:
                assert isinstance(await pinger.ping(WINDOW_S), PingOk)
                assert isinstance(await pinger.ping(WINDOW_S), PingOk)

    async def test_a_closed_port_is_refused_at_once(self) -> None:
        async with SmallMirror() as mirror:
            url = mirror.ping_url
        async with pinging(url) as pinger:
            answer = await pinger.ping(WINDOW_S)
        assert isinstance(answer, PingFailed)
        assert answer.failure is Failure.REFUSED

    async def test_silence_ends_with_the_window_after_five_tries(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            mirror.ping_way = Way.HANG
            started = time.monotonic()
            answer = await pinger.ping(0.6)
            assert isinstance(answer, PingFailed)
            assert answer.failure is Failure.SILENT
            assert 0.55 < time.monotonic() - started < 0.75
            assert mirror.pings == 5

    async def test_one_lost_request_is_not_silence(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            mirror.hang_first = 2
            assert isinstance(await pinger.ping(1.0), PingOk)
            assert mirror.pings == 3

    async def test_a_kept_connection_that_the_mirror_has_closed_is_no_failure(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            assert isinstance(await pinger.ping(WINDOW_S), PingOk)
            mirror.drop_connections()
            await asyncio.sleep(0)
            assert isinstance(await pinger.ping(WINDOW_S), PingOk)
            assert mirror.accepted == 2

    async def test_an_agent_that_was_late_itself_gives_the_mirror_a_little_more_time(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            mirror.hang_first = 2
            asyncio.get_running_loop().call_later(0.15, time.sleep, 0.4)
            assert isinstance(await pinger.ping(WINDOW_S), PingOk)

    async def test_a_mirror_that_is_silent_then_too_is_silent(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            mirror.ping_way = Way.HANG
            asyncio.get_running_loop().call_later(0.15, time.sleep, 0.4)
            assert isinstance(await pinger.ping(WINDOW_S), PingFailed)

    async def test_an_agent_that_is_late_again_does_not_call_it_silence(self) -> None:
        async with SmallMirror() as mirror, pinging(mirror.ping_url) as pinger:
            mirror.ping_way = Way.HANG
            for at in (0.15, 0.6):
                asyncio.get_running_loop().call_later(at, time.sleep, 0.4)
            answer = await pinger.ping(WINDOW_S)
            assert isinstance(answer, LoopLate)
            assert answer.late_s > 0.1

    async def test_an_answer_that_comes_after_the_window_is_told_too(self) -> None:
        late: list[PingOk] = []
        async with SmallMirror() as mirror, pinging(mirror.ping_url, late) as pinger:
            mirror.delay_s = 0.7
            started = time.monotonic()
            assert isinstance(await pinger.ping(WINDOW_S), PingFailed)
            await until(lambda: bool(late))
            assert len(late) == 1
            assert 0.7 <= late[0].latency_s < 1.0
            assert abs(late[0].started - started) < 0.1

    async def test_what_never_answers_is_given_up(self) -> None:
        late: list[PingOk] = []
        async with SmallMirror() as mirror, pinging(mirror.ping_url, late, cap_s=0.6) as pinger:
            mirror.ping_way = Way.HANG
            assert isinstance(await pinger.ping(WINDOW_S), PingFailed)
            assert daemons_tasks()
            await until(lambda: not daemons_tasks())
            assert late == []

    async def test_an_https_ping_url_is_asked_only_whether_its_port_accepts(self) -> None:
        async with SmallMirror() as mirror:
            url = f"https://127.0.0.1:{mirror.ping_port}/healthy"
            async with pinging(url) as pinger:
                assert isinstance(await pinger.ping(WINDOW_S), PingOk)
            assert mirror.pings == 0


class TestSentinel:
    async def test_the_end_of_the_mirror_is_told_within_milliseconds(self) -> None:
        async with SmallMirror() as mirror, task_group() as tasks:
            told: asyncio.Queue[SentinelClosed] = asyncio.Queue()
            tasks.create_task(Sentinel(parse_url(mirror.url), told.put_nowait).run(), name="sentinel")
            await until(lambda: mirror.accepted > 0)
            started = time.monotonic()
            await mirror.die()
            event = await told.get()
            assert time.monotonic() - started < 0.1
            assert "ended" in event.detail
            await mirror.revive()
            seen = mirror.accepted
            await until(lambda: mirror.accepted > seen)


class TestHttp:
    async def test_a_body_that_is_too_long_is_refused_before_it_is_read(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with closing(Connection("127.0.0.1", port)) as connection:
                answer = await connection.ask("/", "x")
                with pytest.raises(ProbeError, match="99999999 bytes"):
                    await connection.body(answer, ignore)

    @pytest.mark.parametrize("host", ["fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "100.100.100.200"])
    async def test_a_link_local_address_is_never_asked(self, host: str) -> None:
        with pytest.raises(ProbeError, match="link-local"):
            Connection(host, 80)

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
