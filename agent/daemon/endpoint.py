"""The local HTTP listeners, by hand: GET and HEAD, a bounded header, a deadline, one request for each connection.

TCP on 127.0.0.1 serves /livez, /readyz and /canary and nothing else: any process that may use the mirror as a proxy
can reach the node's loopback through it, and a Host check does not stop that one (it stops a browser's DNS
rebinding). /status and /metrics are on a unix socket, 0660.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

_HEADER_CAP = 8192
_DEADLINE_S = 2.0
_CONNECTIONS = 64
"""At the same time, for each listener. One more ends the oldest, so that who holds many keeps nobody else out: the
mirror's canary comes this way, and must not fail because some local user does not let go."""
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes
    type: str = TEXT


Handler: TypeAlias = Callable[[str, str], Response | None]
"""(path, query) -> the answer; None: there is nothing here."""

_REASONS = {200: "OK", 206: "Partial Content", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
            416: "Range Not Satisfiable", 421: "Misdirected Request", 503: "Service Unavailable"}  # fmt: skip


class Listener:
    """One listener. `port` is None where it does not listen."""

    def __init__(self, handler: Handler, *, check_host: bool = True) -> None:
        self._handler = handler
        self._check_host = check_host
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}  # oldest first
        self.port: int | None = None

    async def listen_tcp(self, host: str, port: int) -> str:
        """Listen; "" or why not (the port is taken)."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=_HEADER_CAP, backlog=_CONNECTIONS)
        except OSError as error:
            return "in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return ""

    async def listen_unix(self, path: str) -> None:
        """Listen on a socket file of ours, 0660. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()  # a former run's
        before = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=_HEADER_CAP)
        finally:
            os.umask(before)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server, self.port = None, None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(_DEADLINE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head.decode("latin-1").split("\r\n")))
                writer.close()
                await writer.wait_closed()  # until all of it has gone out
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that sends too much, too slowly or nothing gets nothing
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()  # close() would keep the connection for as long as the client does not read

    def _answer(self, head: list[str]) -> bytes:
        words = head[0].split(" ")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
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
        found = self._handler(target.path, target.query) or Response(404, b"nothing here\n")
        ranged, extra = _ranged(found, headers.get("range", ""))
        return _encoded(ranged, extra, body=words[0] == "GET")

    def _is_ours(self, host: str) -> bool:
        return host in {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")}


def _ranged(response: Response, wanted: str) -> tuple[Response, str]:
    """One range of bytes, which Dragonfly asks for; anything else in a Range header is ignored, as RFC 9110 allows."""
    first, dash, last = wanted.removeprefix("bytes=").partition("-")
    size = len(response.body)
    sound = wanted.startswith("bytes=") and dash and _is_number(first) and (_is_number(last) or not last)
    if response.status != 200 or not sound:
        return response, ""
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start > end:
        return Response(416, b"", response.type), f"Content-Range: bytes */{size}\r\n"
    return Response(
        206, response.body[start : end + 1], response.type
    ), f"Content-Range: bytes {start}-{end}/{size}\r\n"


def _is_number(text: str) -> bool:
    """Digits that int() takes: others than ASCII's, and thousands of them, it does not."""
    return text.isascii() and text.isdigit() and len(text) < 20


def _encoded(response: Response, extra: str = "", *, body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}\r\n"
        f"Content-Type: {response.type}\r\nContent-Length: {len(response.body)}\r\n{extra}"
        "Accept-Ranges: bytes\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (response.body if body else b"")
