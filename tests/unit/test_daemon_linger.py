"""The moment after asking: what it takes, what it leaves to the loop, and when it is not spent."""

from __future__ import annotations

import asyncio
import resource
import socket
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

import pytest

from agent.config.model import Config, MirrorConfig
from agent.daemon.canary import CanaryObject
from agent.daemon.documents import applied
from agent.daemon.endpoint import Listener, Response
from agent.daemon.http import Answer, Connection, ProbeError
from agent.daemon.linger import MOMENT_S, linger
from agent.daemon.origins import Origins
from agent.daemon.probing import Probing
from agent.daemon.settings import settings
from agent.health.evidence import CanaryOk, Event, PingOk
from agent.health.policy import Policy
from agent.health.state import State
from tests.fakes.daemon import FakeNames
from tests.fakes.turning import go, here

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_answer_that_comes_at_once_needs_no_turn_of_the_loop() -> None:
    async def work() -> None:
        with closing(Asked()) as asked:
            asked.peer.sendall(ANSWER)
            linger([asked.connection], tuple)
            assert [isinstance(one, Answer) for one in asked.told] == [True]
            assert asked.connection.usable
            assert not asked.connection.awaits

    go(work())


def test_an_answer_that_comes_later_is_the_loops_and_is_told_once() -> None:
    async def work() -> None:
        with closing(Asked()) as asked:
            asked.peer.sendall(ANSWER[:-1])
            began = time.monotonic()
            linger([asked.connection], tuple)
            assert time.monotonic() - began >= MOMENT_S
            assert asked.told == []
            asked.peer.sendall(ANSWER[-1:])
            await asyncio.sleep(0.05)
            assert len(asked.told) == 1

    go(work())


def test_nothing_is_waited_for_where_nothing_was_asked() -> None:
    async def work() -> None:
        with closing(Asked()) as asked:
            asked.connection.close()
            before = waits()
            linger([asked.connection], tuple)
            linger([], tuple)
            assert waits() == before

    go(work())


def test_an_answer_may_close_what_another_one_waits_on() -> None:
    async def work() -> None:
        with closing(Asked()) as one, closing(Asked()) as other:
            for mine, others in ((one, other), (other, one)):
                mine.then = others.connection.close
                mine.peer.sendall(ANSWER)
            linger([one.connection, other.connection], tuple)
            assert len(one.told + other.told) == 1

    go(work())


def test_who_asks_us_meanwhile_is_answered_also_in_pieces() -> None:
    async def work() -> None:
        async with listening(b"0123456789") as listener:
            with closing(Asked()) as asked, client_of(listener) as client:
                client.sendall(b"GET / HTTP/1.1\r\n")
                linger([asked.connection], listener.waiting)
                client.sendall(b"\r\n")
                linger([asked.connection], listener.waiting)
                assert client.recv(4096).endswith(b"0123456789")
            assert list(listener.waiting()) == [listener]

    go(work())


def test_a_client_that_does_not_take_its_answer_is_not_waited_for() -> None:
    async def work() -> None:
        async with listening(bytes(16 << 20)) as listener:
            with client_of(listener) as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                await asyncio.sleep(0.05)
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert list(listener.waiting()) == [listener]

    go(work())


def test_nobody_is_waited_for_while_no_descriptor_is_left_to_accept_with() -> None:
    async def work() -> None:
        async with listening(b"") as listener:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with client_of(listener):
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                try:
                    listener.readable()
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert list(listener.waiting()) == []
                async with asyncio.timeout(5):
                    while list(listener.waiting()) != [listener]:
                        await asyncio.sleep(0.05)
        assert (list(listener.waiting()), listener.fileno()) == ([], -1)
        listener.readable()

    go(work())


@pytest.mark.parametrize(("delay_s", "at_once"), [(0.0, True), (0.02, False)])
def test_a_mirror_is_waited_for_only_while_its_answers_come_at_once(delay_s: float, at_once: bool) -> None:
    async def work() -> None:
        async with listening(b"") as listener, probing(listener, delay_s) as (probes, seen):
            taken, waited = list[Event](), 0
            for _ in range(40):
                probes.beat(0.02)
                there, before = len(seen), waits()
                probes.linger()
                waited += waits() - before
                taken += seen[there:]
                await asyncio.sleep(0.025)
            kinds = {type(event) for event in seen}
            assert kinds == {PingOk, CanaryOk}
            if at_once:
                assert {type(event) for event in taken} == kinds
            else:
                assert (taken, waited) == ([], 0)

    go(work())


# The scene


class Asked:
    """A question to a peer that answers when the test says so."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.connection = Connection.begin(here(), *server.getsockname())
            self.peer, _ = server.accept()
        self.told: list[Answer | ProbeError] = []
        self.then: Callable[[], None] = lambda: None
        self.connection.ask("/", "x", None, lambda _: None, self._hear)

    def close(self) -> None:
        self.connection.close()
        self.peer.close()

    def _hear(self, found: Answer | ProbeError) -> None:
        self.told.append(found)
        self.then()


def waits() -> int:
    """How often this thread went to sleep."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


@asynccontextmanager
async def listening(body: bytes) -> AsyncIterator[Listener]:
    def broken(error: Exception) -> None:
        raise error

    listener = Listener(here(), lambda _path, _query: Response(200, body), broken, check_host=False)
    assert listener.listen_tcp("127.0.0.1", 0) == ""
    try:
        yield listener
    finally:
        listener.end()


def client_of(listener: Listener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port or 0))


class Mirror(socketserver.ThreadingTCPServer):
    """Answers pings, and fetches what it is asked for as a proxy, each after `delay_s`."""

    daemon_threads = True
    delay_s = 0.0


class _Served(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Mirror)
        while words := self.rfile.readline().split():
            while self.rfile.readline().strip():
                pass
            time.sleep(self.server.delay_s)
            target = urlsplit(words[1].decode())
            if not target.hostname:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                continue
            with (
                socket.create_connection((target.hostname, target.port or 80)) as origin,
                origin.makefile("rb") as file,
            ):
                origin.sendall(f"GET {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n".encode())
                self.wfile.write(file.read())
            return


@asynccontextmanager
async def probing(listener: Listener, delay_s: float) -> AsyncIterator[tuple[Probing, list[Event]]]:
    """The probes of a session that beats when the test does, and what they have posted."""
    seen, canary = list[Event](), CanaryObject(body=b"")
    with Mirror(("127.0.0.1", 0), _Served) as mirror:
        mirror.delay_s = delay_s
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{mirror.server_address[1]}"
        made = settings(Config(mirror=MirrorConfig(url=url, ping_url=f"{url}/healthy")), applied(None), "node")
        policy = Policy(interval_s=0.02, canary_interval_s=0.02)
        probes = Probing(
            here(), made, Origins(here(), (), FakeNames(), seen.append), seen.append, canary=canary,
            canary_port=lambda: listener.port, serving=listener.waiting, state=lambda: State(local=True),
            policy=lambda: policy, before=lambda: None, sooner=lambda _: None, lifted_at=lambda: 0.0,
        )  # fmt: skip
        yield probes, seen
        probes.close()
        mirror.shutdown()
