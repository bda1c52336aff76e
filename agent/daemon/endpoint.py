"""The local HTTP listeners, by hand: GET and HEAD, a bounded header, a deadline, one request for each connection.

TCP on 127.0.0.1 serves /livez, /readyz and /canary and nothing else: any process that may use the mirror as a proxy
can reach the node's loopback through it, and a Host check does not stop that one (it stops a browser's DNS
rebinding). /status and /metrics are on a unix socket, 0660.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from agent.daemon.http import fields
from agent.daemon.turning import Loop, Timer

_HEADER_CAP = 8192
_DEADLINE_S = 2.0
_PIECE = 65536
_ACCEPT_AGAIN_S = 1.0
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


class HttpServer:
    """One listener. `port` is None where it does not listen (or where it does so on a file). `lacks` is told why where
    a connection could not be taken: for _ACCEPT_AGAIN_S then none is. `broken` is told of a bug that has kept a request
    from being answered.
    """

    def __init__(
        self,
        loop: Loop,
        handler: Handler,
        broken: Callable[[Exception], None],
        *,
        check_host: bool = True,
        lacks: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._broken = broken
        self._lacks = lacks
        self._check_host = check_host
        self._socket: socket.socket | None = None
        self._clients: dict[_Client, None] = {}  # oldest first
        self._again: Timer | None = None
        self.port: int | None = None

    def listen_tcp(self, host: str, port: int) -> str:
        """Listen on an address; "" or why not (the port is taken)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listen(socket.create_server((host, port), family=family, backlog=_CONNECTIONS))
        except OSError as error:
            return "in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or errno.EIO)
        assert self._socket is not None
        self.port = int(self._socket.getsockname()[1])
        return ""

    def listen_unix(self, path: str) -> None:
        """Listen on a socket file of ours, 0660. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()  # a former run's
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            opened.bind(path)
            opened.listen(_CONNECTIONS)
        except OSError:
            opened.close()
            raise
        finally:
            os.umask(before)
        self._listen(opened)

    def close(self) -> None:
        """Stop listening; who has asked already is answered."""
        opened, self._socket, self.port = self._socket, None, None
        if self._again is not None:
            self._again.cancel()
        if opened is not None:
            self._loop.remove_reader(opened.fileno())
            opened.close()

    def end(self) -> None:
        """Stop listening, and end what is open."""
        self.close()
        for client in tuple(self._clients):
            client.close()

    def _listen(self, opened: socket.socket) -> None:
        opened.settimeout(0)
        self._socket = opened
        self._accept_again()

    def _accept_again(self) -> None:
        opened = self._socket
        if opened is not None:
            self._loop.add_reader(opened.fileno(), lambda: self._accept(opened))

    def _accept(self, opened: socket.socket) -> None:
        for _ in range(_CONNECTIONS):
            try:
                accepted, _ = opened.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is left: it stays readable, and asking again at once is in vain
                self._loop.remove_reader(opened.fileno())
                self._again = self._loop.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                self._lacks(f"no connection can be taken: {error.strerror}")
                return
            if len(self._clients) >= _CONNECTIONS:
                next(iter(self._clients)).close()
            client = _Client(self._loop, accepted, self._answered, self._clients.pop)
            self._clients[client] = None
            client.readable()

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
        found = self._handler(target.path, target.query) or Response(404, b"nothing here\n")
        ranged, extra = _ranged(found, headers.get("range", ""))
        return _encoded(ranged, extra, body=words[0] == "GET")

    def _is_ours(self, host: str) -> bool:
        return host in {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")}


class _Client:
    """One connection: a request, its answer, the end."""

    def __init__(
        self,
        loop: Loop,
        accepted: socket.socket,
        answer: Callable[[list[str]], bytes],
        over: Callable[[_Client], object],
    ) -> None:
        self._loop = loop
        self._socket = accepted
        self._socket.settimeout(0)
        self._answer = answer
        self._over = over
        self._head = b""
        self._left = b""
        self._deadline = self._loop.call_later(_DEADLINE_S, self.close)

    def readable(self) -> None:
        """Take what has come; most requests are there by the time that they are accepted."""
        try:
            piece = self._socket.recv(_PIECE)
        except BlockingIOError:
            self._await()
            return
        except OSError:
            piece = b""
        self._head += piece
        if b"\r\n\r\n" in self._head[:_HEADER_CAP]:
            self._unread()
            self._left = self._answer(self._head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"))
            self._send()
            if self._left:
                self._loop.add_writer(self._socket.fileno(), self._send)
        elif not piece or len(self._head) >= _HEADER_CAP:
            self.close()  # a client that sends nothing, too much or too slowly gets nothing
        else:
            self._await()

    def close(self) -> None:
        """At once."""
        if self._socket.fileno() == -1:
            return
        self._deadline.cancel()
        self._unread()
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._over(self)

    def _await(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self.readable)

    def _unread(self) -> None:
        self._loop.remove_reader(self._socket.fileno())

    def _send(self) -> None:
        try:
            self._left = self._left[self._socket.send(self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left = b""
        if not self._left:
            self.close()


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
