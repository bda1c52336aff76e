"""What the bare minimum of a prober costs on this machine: run in a fresh interpreter, it prints one JSON
object of percents of a core, each over the seconds that it is given. Standard library only; it is sent to the
node as text.

The least is a loop around poll(2) that does nothing but wake; then the same on asyncio; then four pings a
second over a socket without any library, on one connection or on a new one each; then those pings and once a
second a canary: an object of 4 KiB that the program itself serves, fetched through a mirror, on poll(2) and
on asyncio. Nothing is parsed, judged, renewed or told. Server and mirror are another process, which is not
counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine

PINGS = 4
_REQUEST = b"GET /healthy HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_OBJECT = b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + bytes(4096)


def main(seconds: float) -> None:
    """Measure each, one after the other."""
    server = socket.create_server(("127.0.0.1", 0))
    port = int(server.getsockname()[1])
    mirror, canary = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    children = [os.fork()]
    if children[0] == 0:
        _serve(server)
    children.append(os.fork())
    if children[1] == 0:
        _relay(mirror, canary.getsockname())
    try:
        found = {
            f"poll loop, {PINGS} wakes a second": _percent(lambda: _wake(PINGS, seconds)),
            f"poll loop, {2 * PINGS} wakes a second": _percent(lambda: _wake(2 * PINGS, seconds)),
            f"asyncio, {2 * PINGS} wakes a second": asyncio.run(_on_loop(_sleep(2 * PINGS, seconds))),
            f"{PINGS} pings a second, one connection": _percent(lambda: _ping_kept(port, seconds)),
            f"{PINGS} pings a second, new connections": _percent(lambda: _ping_anew(port, seconds)),
            f"{PINGS} pings and a canary a second, poll": _percent(
                lambda: _Prober(port, mirror.getsockname(), canary).run(seconds)
            ),
            f"{PINGS} pings and a canary a second, asyncio": asyncio.run(
                _on_loop(_Prober(port, mirror.getsockname(), canary).run_on_loop(seconds))
            ),
        }
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    print(json.dumps(found))


def _percent(work: Callable[[], None]) -> float:
    began, spent = time.monotonic(), _run_s()
    work()
    return 100 * (_run_s() - spent) / (time.monotonic() - began)


async def _on_loop(work: Coroutine[None, None, None]) -> float:
    """The same on a loop that runs already: what making and closing one costs is not counted."""
    began, spent = time.monotonic(), _run_s()
    await work
    return 100 * (_run_s() - spent) / (time.monotonic() - began)


def _run_s() -> float:
    """Seconds that this thread has run (nanoseconds in the first field;

    Documentation/scheduler/sched-stats.rst).
    """
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def _beats(rate: int, seconds: float) -> range:
    return range(round(rate * seconds))


def _wake(rate: int, seconds: float) -> None:
    waiting = select.poll()
    for _ in _beats(rate, seconds):
        waiting.poll(1000 / rate)


async def _sleep(rate: int, seconds: float) -> None:
    for _ in _beats(rate, seconds):
        await asyncio.sleep(1 / rate)


def _ping_kept(port: int, seconds: float) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in _beats(PINGS, seconds):
            _ask(connection)
            time.sleep(1 / PINGS)


def _ping_anew(port: int, seconds: float) -> None:
    for _ in _beats(PINGS, seconds):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            _ask(connection)
        time.sleep(1 / PINGS)


def _ask(connection: socket.socket) -> None:
    connection.sendall(_REQUEST)
    assert connection.recv(4096) == _ANSWER


class _Prober:
    """Sends the pings and the canaries, serves the canaries' object, and reads the answers as they come."""

    def __init__(self, port: int, mirror: tuple[str, int], canary: socket.socket) -> None:
        self._mirror, self._canary = mirror, canary
        self._kept = socket.create_connection(("127.0.0.1", port))
        self._asked: socket.socket | None = None

    def run(self, seconds: float) -> None:
        waiting = select.poll()
        for source in (self._kept, self._canary):
            waiting.register(source, select.POLLIN)
        for beat in _beats(PINGS, seconds):
            due = time.monotonic() + 1 / PINGS
            self._send(beat)
            if self._asked is not None:
                waiting.register(self._asked, select.POLLIN)
            while (rest := due - time.monotonic()) > 0:
                for descriptor, _ in waiting.poll(1000 * rest):
                    if self._asked is not None and descriptor == self._asked.fileno():
                        waiting.unregister(self._asked)
                    self._take(descriptor)
        self._kept.close()

    async def run_on_loop(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for source in (self._kept, self._canary):
            loop.add_reader(source, self._take, source.fileno())
        for beat in _beats(PINGS, seconds):
            self._send(beat)
            if (asked := self._asked) is not None:
                loop.add_reader(asked, self._take_last, loop, asked.fileno())
            await asyncio.sleep(1 / PINGS)
        for source in (self._kept, self._canary):
            loop.remove_reader(source)
        self._kept.close()

    def _take_last(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        loop.remove_reader(descriptor)
        self._take(descriptor)

    def _send(self, beat: int) -> None:
        self._kept.sendall(_REQUEST)
        if beat % PINGS == 0:
            self._asked = socket.create_connection(self._mirror)
            self._asked.sendall(_REQUEST)

    def _take(self, descriptor: int) -> None:
        if descriptor == self._kept.fileno():
            assert self._kept.recv(4096) == _ANSWER
        elif descriptor == self._canary.fileno():
            client, _ = self._canary.accept()
            with client:
                client.recv(4096)
                client.sendall(_OBJECT)
        elif self._asked is not None:
            with self._asked as asked:
                assert asked.recv(8192, socket.MSG_WAITALL) == _OBJECT
            self._asked = None


def _relay(mirror: socket.socket, origin: tuple[str, int]) -> None:
    """Fetch what is asked for from the origin, one request for each connection, until killed."""
    while True:
        client, _ = mirror.accept()
        with client, socket.create_connection(origin) as fetching:
            fetching.sendall(client.recv(4096))
            client.sendall(fetching.recv(8192, socket.MSG_WAITALL))


def _serve(server: socket.socket) -> None:
    """Answer until killed."""
    waiting, clients = select.poll(), {server.fileno(): server}
    waiting.register(server, select.POLLIN)
    while True:
        for descriptor, _ in waiting.poll():
            if descriptor == server.fileno():
                client, _ = server.accept()
                clients[client.fileno()] = client
                waiting.register(client, select.POLLIN)
            elif clients[descriptor].recv(4096):
                clients[descriptor].sendall(_ANSWER)
            else:
                waiting.unregister(descriptor)
                clients.pop(descriptor).close()


if __name__ == "__main__":
    main(float(sys.argv[1]))
