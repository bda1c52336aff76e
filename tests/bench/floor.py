"""What the bare minimum of a prober costs on this machine: run in a fresh interpreter, it prints one JSON object of
percents of a core, each over the seconds that it is given. Standard library only; it is sent to the node as text.

The least is a loop around poll(2) that does nothing but wake; then the same on asyncio; then four pings a second over a
socket without any library, on one connection or on a new one each. The server is another process, which is not counted.
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
from collections.abc import Callable

PINGS = 4
_REQUEST = b"GET /healthy HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def main(seconds: float) -> None:
    """Measure each, one after the other."""
    server = socket.create_server(("127.0.0.1", 0))
    port = int(server.getsockname()[1])
    child = os.fork()
    if child == 0:
        _serve(server)
    try:
        found = {
            f"poll loop, {PINGS} wakes a second": _percent(lambda: _wake(PINGS, seconds)),
            f"poll loop, {2 * PINGS} wakes a second": _percent(lambda: _wake(2 * PINGS, seconds)),
            f"asyncio, {2 * PINGS} wakes a second": _percent(lambda: asyncio.run(_sleep(2 * PINGS, seconds))),
            f"{PINGS} pings a second, one connection": _percent(lambda: _ping_kept(port, seconds)),
            f"{PINGS} pings a second, new connections": _percent(lambda: _ping_anew(port, seconds)),
        }
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(json.dumps(found))


def _percent(work: Callable[[], None]) -> float:
    began, spent = time.monotonic(), _run_s()
    work()
    return 100 * (_run_s() - spent) / (time.monotonic() - began)


def _run_s() -> float:
    """Seconds that this thread has run (nanoseconds in the first field; Documentation/scheduler/sched-stats.rst)."""
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
