"""The daemon's HTTP server: GET and HEAD, a bounded header, a deadline, one request for each connection.

TCP on 127.0.0.1 serves /livez, /readyz and /canary and nothing else: any process that may use the mirror as a
proxy can reach the node's loopback through it, and a Host check does not stop that one (it stops a browser's
DNS rebinding). /status and /metrics are on a unix socket, 0660.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from agent.daemon.http_client import fields
from agent.outside_json import whole

_HEADER_CAP = 8192
_DEADLINE_S = 2.0
_PIECE = 65536
_ACCEPT_AGAIN_S = 1.0
_CONNECTIONS = 64
"""At the same time, for each listener. One more ends the oldest, so that who holds many keeps nobody else
out: the mirror's canary comes this way, and must not fail because some local user does not let go."""
_WAITING = 1024
"""Connections that wait to be taken: one that finds no room there comes back after a second, too late for a
canary.
"""
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes
    type: str = TEXT


Handler: TypeAlias = Callable[[str, str], Response | None]
"""(path, query) -> the answer; None: there is nothing here."""


class HttpServer:
    """One listener. `port` is None where it does not listen (or where it does so on a file). `lacks` is told
    why where a connection could not be taken: for _ACCEPT_AGAIN_S then none is; and while one is ended for
    another, which may be the mirror's with a canary, each _ACCEPT_AGAIN_S. `broken` is told of a bug
    that has kept a request from being answered.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        handler: Handler,
        broken: Callable[[Exception], None],
        *,
        check_host: bool = True,
        lacks: Callable[[str], None] | None = None,
    ) -> None:
        self._tasks = tasks
        self._handler = handler
        self._broken = broken
        self._lacks = lacks
        self._check_host = check_host
        self._socket: socket.socket | None = None
        self._listening: asyncio.Task[None] | None = None
        self._clients: dict[asyncio.Task[None], socket.socket] = {}  # oldest first
        self._full_told_at = float("-inf")
        self.port: int | None = None

    def listen_tcp(self, host: str, port: int) -> str:
        """Listen on an address; "" or why not (the port is taken)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            opened = socket.create_server((host, port), family=family, backlog=_WAITING)
        except OSError as error:
            return "in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or errno.EIO)
        self.port = int(opened.getsockname()[1])
        self._listen(opened, f"listener on {host}:{self.port}")
        return ""

    def listen_unix(self, path: str) -> str:
        """Listen on a socket file of ours, 0660, anew where that was taken away; "" or why not."""
        if self._socket is not None and Path(path).exists():
            return ""
        self.close()
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            Path(path).unlink(missing_ok=True)  # a former run's
            opened.bind(path)
            opened.listen(_WAITING)
        except OSError as error:
            opened.close()
            return os.strerror(error.errno or errno.EIO)
        finally:
            os.umask(before)
        self._listen(opened, f"listener on {path}")
        return ""

    def close(self) -> None:
        """Stop listening; who has asked already is answered."""
        opened, self._socket, self.port = self._socket, None, None
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if opened is not None:
            asyncio.get_running_loop().remove_reader(opened.fileno())  # before its number is another one's
            opened.close()

    def _listen(self, opened: socket.socket, name: str) -> None:
        opened.setblocking(False)  # noqa: FBT003 - its own name
        self._socket = opened
        self._listening = self._tasks.create_task(self._accept(opened), name=name)

    async def _accept(self, opened: socket.socket) -> None:
        """Take whoever comes; after some of them, others have their turn. `close` ends this, and the watch
        too.
        """
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(opened.fileno(), ready.set)
        while True:
            await ready.wait()
            ready.clear()
            try:
                for _ in range(_CONNECTIONS):
                    self._serve(opened.accept()[0])
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except (
                OSError
            ) as error:  # no descriptor is left: it stays readable, and to ask again at once is in vain
                loop.remove_reader(opened.fileno())
                if self._lacks is not None:
                    self._lacks(f"no connection can be taken: {error.strerror}")
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                loop.add_reader(opened.fileno(), ready.set)

    def _serve(self, client: socket.socket) -> None:
        client.setblocking(False)  # noqa: FBT003 - its own name
        if len(self._clients) >= _CONNECTIONS:
            oldest = next(iter(self._clients))
            oldest.cancel()
            self._forget(oldest)
            now = asyncio.get_running_loop().time()
            if self._lacks is not None and now >= self._full_told_at + _ACCEPT_AGAIN_S:
                self._full_told_at = now
                self._lacks("somebody holds all connections that the endpoint has")
        task = self._tasks.create_task(self._answer_one(client), name="a request")
        self._clients[task] = client
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """It has ended, or is to: also before it has begun, when nothing in it would close its socket."""
        client = self._clients.pop(task, None)
        if client is not None:
            asyncio.get_running_loop().remove_reader(client.fileno())
            asyncio.get_running_loop().remove_writer(client.fileno())
            client.close()

    async def _answer_one(self, client: socket.socket) -> None:
        """A client that sends nothing, too much or too slowly gets nothing."""
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(_DEADLINE_S):
                head = await _head(client)
                if head:
                    await asyncio.get_running_loop().sock_sendall(client, self._answered(head))

    def _answered(self, head: list[str]) -> bytes:
        try:
            return self._answer(head)
        except Exception as error:  # noqa: BLE001 - it ends this connection alone
            self._broken(error)
            return b""

    def _answer(self, head: list[str]) -> bytes:
        words = head[0].split(" ")
        headers = fields(head[1:])
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _encoded(Response(400, b"not HTTP/1\n"))
        if words[0] not in ("GET", "HEAD"):
            return _encoded(Response(405, b"GET and HEAD only\n"), "Allow: GET, HEAD\r\n")
        if self._check_host and not self._is_ours(headers.get("host", "")):
            return _encoded(Response(421, b"this is the node's own endpoint\n"))
        try:
            target = urlsplit(words[1])
        except ValueError:
            return _encoded(Response(400, b"not a path\n"))
        response = self._handler(target.path, target.query) or Response(404, b"nothing here\n")
        ranged, extra = _ranged(response, headers.get("range", ""))
        return _encoded(ranged, extra, body=words[0] == "GET")

    def _is_ours(self, host: str) -> bool:
        return host in {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")}


async def _head(client: socket.socket) -> list[str]:
    """The lines of a request's head; none where it has no end within _HEADER_CAP bytes."""
    head = b""
    while b"\r\n\r\n" not in head[:_HEADER_CAP]:
        piece = await asyncio.get_running_loop().sock_recv(client, _PIECE)
        head += piece
        if not piece or (len(head) >= _HEADER_CAP and b"\r\n\r\n" not in head[:_HEADER_CAP]):
            return []
    return head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")


def _ranged(response: Response, wanted: str) -> tuple[Response, str]:
    """One range of bytes, which Dragonfly asks for; anything else in a Range header is ignored, as RFC 9110
    allows."""
    first, dash, last = wanted.removeprefix("bytes=").partition("-")
    size = len(response.body)
    start, end = whole(first), whole(last) if last else size
    if response.status != 200 or not wanted.startswith("bytes=") or not dash or start is None or end is None:
        return response, ""
    end = min(end, size - 1)
    if start > end:
        return Response(416, b"", response.type), f"Content-Range: bytes */{size}\r\n"
    part = Response(206, response.body[start : end + 1], response.type)
    return part, f"Content-Range: bytes {start}-{end}/{size}\r\n"


def _encoded(response: Response, extra: str = "", *, body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"Content-Type: {response.type}\r\nContent-Length: {len(response.body)}\r\n{extra}"
        "Accept-Ranges: bytes\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (response.body if body else b"")
