"""Ways to a server that break: what a client sends is cut off, or comes late."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Upward: TypeAlias = Callable[[socket.socket, socket.socket], None]
"""Carries what a client sends to the server, until the connection ends."""
_PIECE = 65536


def cut_after(limit: int) -> Upward:
    """The connection breaks after so many bytes of the client's."""

    def carry(client: socket.socket, server: socket.socket) -> None:
        left = limit
        while left and (came := client.recv(min(_PIECE, left))):
            server.sendall(came)
            left -= len(came)

    return carry


WHOLE = cut_after(1 << 60)


def slow(pause_s: float) -> Upward:
    """A pause after each 64 KiB of the client's."""

    def carry(client: socket.socket, server: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        while came := client.recv(_PIECE):
            server.sendall(came)
            time.sleep(pause_s)

    return carry


def without_pieces(client: socket.socket, server: socket.socket) -> None:
    """No PATCH with a Content-Range comes through: it is refused."""
    while came := client.recv(_PIECE):
        if came.startswith(b"PATCH /") and b"\r\nContent-Range:" in came.partition(b"\r\n\r\n")[0]:
            client.sendall(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            while client.recv(_PIECE):  # what is not read would be answered with a reset
                pass
            return
        server.sendall(came)


class Late:
    """A request that breaks off, and reaches the server only when the client sends another of its kind, after it has
    asked what had come. A client waits for each answer, so that a request begins what is received."""

    def __init__(self, server: str, begins: bytes, which: int, most: int) -> None:
        """Requests are known by how they begin; of the `which`th of them (1, 2 …) `most` bytes come, late."""
        self._address, self._begins, self._to_come, self._most = _address(server), begins, which, most
        self._held = b""

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Any connection."""
        while came := client.recv(_PIECE):
            if came.startswith(self._begins):
                self._to_come -= 1
                if self._held:
                    self._deliver()
                if not self._to_come:
                    return self._hold(client, came)
            server.sendall(came)
        return None

    def _hold(self, client: socket.socket, came: bytes) -> None:
        self._held = came
        while len(self._held) < self._most and (came := client.recv(_PIECE)):
            self._held += came

    def _deliver(self) -> None:
        with socket.create_connection(self._address, timeout=30) as server:
            server.sendall(self._held)
            server.shutdown(socket.SHUT_WR)
            while server.recv(_PIECE):  # when it hangs up, it has done with it
                pass
        self._held = b""


@contextmanager
def relay(to: str, upward: Iterable[Upward]) -> Iterator[str]:
    """A way to a server; `upward` says of each connection in turn what becomes of it; those after them are whole."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_now: list[socket.socket] = []

    def carry(one_way: Upward, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one_way(source, target)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            for one_way in itertools.chain(upward, itertools.repeat(WHOLE)):
                client, _ = listener.accept()
                server = socket.create_connection(_address(to), timeout=30)
                open_now.extend((client, server))
                for ends in ((one_way, client, server), (WHOLE, server, client)):
                    threads.append(threading.Thread(target=carry, args=ends))
                    threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for one in (listener, *open_now):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        for one in (listener, *open_now):
            one.close()


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.partition(":")
    return host, int(port)
