"""Servers on the loopback that say whatever a test wants, down to the byte, and a release host as upstream's is."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

_HEAD_CAP = 65536


@dataclass
class Exchange:
    """One request and the way back."""

    path: str
    headers: Mapping[str, str]
    """Lower-case names."""
    socket: socket.socket
    stopped: threading.Event

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait(self, seconds: float) -> None:
        """Say nothing for so long, or until the test is over."""
        if self.stopped.wait(seconds):
            raise ConnectionAbortedError

    def asked_of(self, body: bytes) -> tuple[int, int] | None:
        """The range of this file that was asked for: first byte, last byte."""
        asked, end = self.asked(), len(body) - 1
        return None if asked is None else (asked[0], end if asked[1] is None else min(asked[1], end))

    def asked(self) -> tuple[int, int | None] | None:
        """The range that was asked for: first byte, last byte (None: to the end)."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return None if found is None else (int(found[1]), int(found[2]) if found[2] else None)


Handler: TypeAlias = Callable[[Exchange], bool]
"""Answers; True: the connection stays open for another request."""


@dataclass
class Server:
    """Answers by path; `requests` are those that came."""

    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    routes: dict[str, Handler] = field(default_factory=dict)
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _open: set[socket.socket] = field(default_factory=set)

    def url(self, path: str, host: str = "") -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{path}"

    def run(self) -> contextlib.AbstractContextManager[Server]:
        return self._running()

    @contextlib.contextmanager
    def _running(self) -> Iterator[Server]:
        listener = socket.create_server((self.host, 0))
        self.port = listener.getsockname()[1]
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            listener.close()
            for one in tuple(self._open):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            connection = self.tls.wrap_socket(plain, server_side=True) if self.tls else plain
            self._open.add(connection)
            with connection:
                while self._answer(connection):
                    pass
            self._open.discard(connection)

    def _answer(self, connection: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece or len(head) > _HEAD_CAP:
                return False
            head += piece
            if head.startswith(b"\x16\x03"):  # TLS, which this one does not speak
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return False
        first, *rest = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        path = first.split(" ")[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        exchange = Exchange(path, headers, connection, self._stopped)
        self.requests.append(exchange)
        return self.routes.get(path, not_found)(exchange)


def answer(body: bytes, status: str = "200 OK", **headers: str) -> Handler:
    """A plain answer with its length; "_" in a header's name stands for "-"."""

    def handle(exchange: Exchange) -> bool:
        exchange.send(head(status, **{"Content_Length": str(len(body)), **headers}) + body)
        return True

    return handle


def head(status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def not_found(exchange: Exchange) -> bool:
    return answer(b"no such file", "404 Not Found")(exchange)


def redirect(target: str, status: str = "302 Found") -> Handler:
    return answer(b"", status, Location=target)


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks, without its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def parts(body: bytes, etag: str = '"one"') -> Handler:
    """A file whose parts can be asked for, as object stores have them."""

    def handle(exchange: Exchange) -> bool:
        asked = exchange.asked_of(body)
        if asked is None or exchange.headers.get("if-range", etag) != etag:
            return answer(body, ETag=etag, Accept_Ranges="bytes")(exchange)
        first, last = asked
        where = f"bytes {first}-{last}/{len(body)}"
        return answer(body[first : last + 1], "206 Partial Content", Content_Range=where, ETag=etag)(exchange)

    return handle


@dataclass
class ReleaseHost:
    """Two hosts: one that knows releases and sends away to another, which has the files (as upstream's does)."""

    front: Server
    objects: Server

    def publish(self, path: str, content: bytes) -> str:
        """A file at this path; its URL."""
        name = path.rpartition("/")[2]
        there = f"/objects/{len(self.objects.routes)}?signature=s3cret&name={name}"
        self.objects.routes[there] = parts(content)
        self.front.routes[path] = redirect(self.objects.url(there, host="localhost"))
        return self.front.url(path)


@contextlib.contextmanager
def release_host() -> Iterator[ReleaseHost]:
    with Server().run() as front, Server().run() as objects:
        yield ReleaseHost(front, objects)
