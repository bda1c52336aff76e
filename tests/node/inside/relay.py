"""The HTTP/1.1 relay under the stand-in mirror and the fault front: reads a request, asks upstream, sends the
answer.

Threads and blocking sockets, because that is enough for hundreds of megabytes a second and easy to follow.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.node.inside.faults import Fault, Switchboard

CHUNK = 256 * 1024
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "upgrade"} | {
    "proxy-connection", "proxy-authorization"
}  # fmt: skip
_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


class GoneError(Exception):
    """The connection to the client is to be closed without more words."""


class UpstreamError(Exception):
    """The upstream server could not be reached or broke off before its answer began."""


@dataclass
class Request:
    """One request as the client sent it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Upstream:
    """Where a request goes: the address, what is asked there, and headers to add to the answer."""

    host: str
    port: int
    tls: bool
    target: str
    url: str
    """The URL by which faults and the log know the request."""
    headers: list[tuple[str, str]]
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    via: str = ""
    """A word for the log: how the request was routed."""
    as_task: bool = False
    """Whether errors are told as dfdaemon tells those of its tasks."""


class Log:
    """One JSON line a request, in a file that is only appended to."""

    def __init__(self, path: str | None) -> None:
        self._file = open(path, "a") if path else None  # noqa: SIM115 - as long as the server runs
        self._lock = threading.Lock()
        self.totals = dict.fromkeys(("requests", "bytes", "blob_requests", "blob_bytes", "open"), 0)

    def opened(self, change: int) -> None:
        with self._lock:
            self.totals["open"] += change

    def write(self, url: str, sent: int, **entry: Any) -> None:
        blob = "/blobs/sha256" in url
        with self._lock:
            self.totals["requests"] += 1
            self.totals["bytes"] += sent
            self.totals["blob_requests"] += blob
            self.totals["blob_bytes"] += sent if blob else 0
            if self._file is not None:
                with contextlib.suppress(OSError):  # a full disk must not change what the server does
                    self._file.write(
                        json.dumps({"at": time.time(), "url": url, "bytes": sent, **entry}) + "\n"
                    )
                    self._file.flush()


class Door:
    """A listening TCP socket that can be shut as if its process had died, and opened again."""

    def __init__(self, address: tuple[str, int], serve: Callable[[socket.socket], None]) -> None:
        self.address = address
        self._serve = serve
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()

    def open(self) -> None:
        with self._lock:
            if self._listener is None:
                listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(self.address)
                listener.listen(512)
                self._listener = listener
                threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            clients = list(self._clients)
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for client in clients:
            reset(client)

    def on_fault(self, fault: Fault) -> None:
        if fault.kind == "refuse":
            self.shut()
        else:
            self.open()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._hold, args=(client, listener), daemon=True).start()

    def _hold(self, client: socket.socket, listener: socket.socket) -> None:
        with self._lock:
            stands = listener is self._listener
            if stands:
                self._clients.add(client)
        if not stands:  # shut between the acceptance and here
            reset(client)
            client.close()
            return
        try:
            self._serve(client)
        except (OSError, GoneError):
            pass
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()


def reset(client: socket.socket) -> None:
    """Close with a reset, as a dead process's sockets do when more data arrives."""
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Connection:
    """One client connection: requests one after another, each relayed upstream with the fault that is on."""

    def __init__(self, client: socket.socket, board: Switchboard, log: Log) -> None:
        self.client = client
        self.reader = client.makefile("rb", buffering=65536)
        self.board = board
        self.log = log
        self._kept: dict[tuple[str, int, bool], http.client.HTTPConnection] = {}

    def serve(
        self, route: Callable[[Request], Upstream | None], on_unrouted: Callable[[Connection, Request], None]
    ) -> None:
        self.log.opened(1)
        try:
            while (request := self._read_request()) is not None:
                upstream = route(request)
                if upstream is None:
                    on_unrouted(self, request)
                else:
                    self._relay(request, upstream)
                if (request.header("Connection") or "").lower() == "close":
                    return
        finally:
            self.log.opened(-1)
            for kept in self._kept.values():
                kept.close()

    def _read_request(self) -> Request | None:
        first = self.reader.readline(65536)
        if not first.strip():
            return None
        method, target, _ = first.decode("latin-1").split(" ", 2)
        headers = list(_read_headers(self.reader))
        request = Request(method, target, headers)
        length = int(request.header("Content-Length") or 0)
        request.body = self.reader.read(length) if length else b""
        return request

    def _relay(self, request: Request, upstream: Upstream) -> None:
        fault = self.board.take(upstream.url)
        entry: dict[str, Any] = {
            "method": request.method,
            "via": upstream.via,
            "range": request.header("Range"),
        }
        entry["fault"] = fault.kind
        sent = [0]
        try:
            if fault.kind == "refuse":
                raise GoneError
            if fault.kind == "hang" and not self.board.wait_for_change(fault, self.client):
                raise GoneError
            if fault.kind == "status":
                entry["status"] = fault.status
                kind = [("X-Dragonfly-Error-Type", fault.error_type)] if fault.error_type else []
                return self.send_head(fault.status, [*kind, ("Content-Length", "0")])
            entry["status"] = self._answer(request, upstream, fault, sent)
        finally:
            self.log.write(upstream.url, sent[0], **entry)

    def _answer(self, request: Request, upstream: Upstream, fault: Fault, sent: list[int]) -> int:
        try:
            answer = self._ask(request, upstream)
        except UpstreamError:
            if not upstream.as_task:
                raise
            return self._task_error(500, "backend", [])
        if upstream.as_task and answer.status >= 400:
            answer.read()
            if answer.status == 416:  # dfdaemon finds out itself that a range cannot be served
                return self._task_error(500, "dfdaemon", [])
            return self._task_error(answer.status, "backend", answer.getheaders())
        self._send(request, upstream, answer, fault, sent)
        return answer.status

    def _task_error(self, status: int, kind: str, headers: list[tuple[str, str]]) -> int:
        dropped = _HOP_BY_HOP | {"transfer-encoding", "content-length"}
        kept = [(name, value) for name, value in headers if name.lower() not in dropped]
        self.send_head(status, [*kept, ("X-Dragonfly-Error-Type", kind), ("Content-Length", "0")])
        return status

    def _ask(self, request: Request, upstream: Upstream) -> http.client.HTTPResponse:
        key = (upstream.host, upstream.port, upstream.tls)
        for fresh in (False, True):  # a kept connection may have been closed by the server meanwhile
            connection = None if fresh else self._kept.get(key)
            if connection is None:
                connection = _connection(*key)
                self._kept[key] = connection
            elif connection.sock is None:
                continue
            try:
                return self._request(connection, request, upstream)
            except (OSError, http.client.HTTPException):
                connection.close()
                self._kept.pop(key, None)
                if fresh:
                    raise UpstreamError(upstream.url) from None
        raise UpstreamError(upstream.url)

    def _request(
        self, connection: http.client.HTTPConnection, request: Request, upstream: Upstream
    ) -> http.client.HTTPResponse:
        connection.putrequest(request.method, upstream.target, skip_host=True, skip_accept_encoding=True)
        for name, value in upstream.headers:
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        connection.endheaders(request.body or None)
        return connection.getresponse()

    def _send(
        self, request: Request, upstream: Upstream, answer: http.client.HTTPResponse, fault: Fault,
        sent: list[int],
    ) -> None:  # fmt: skip
        dropped = _HOP_BY_HOP | {"transfer-encoding"}
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
        length = answer.length
        has_body = request.method != "HEAD" and answer.status not in (204, 304)
        chunked = has_body and length is None
        headers += upstream.answer_headers if answer.status in (200, 206) else []
        headers += [("Transfer-Encoding", "chunked")] if chunked else []
        self.send_head(answer.status, headers, answer.reason)
        if has_body:
            for piece in _faulty(_pieces(answer, length), length, fault, self.board, self.client):
                self.client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent[0] += len(piece)
            if chunked:
                self.client.sendall(b"0\r\n\r\n")
        answer.read()

    def send_head(self, status: int, headers: list[tuple[str, str]], reason: str = "") -> None:
        lines = [f"HTTP/1.1 {status} {reason or http.client.responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def tunnel(self, host: str, port: int, first: bytes = b"") -> int:
        """Pass bytes both ways until either side ends; returns how many went to the client."""
        with socket.create_connection((host, port), 10) as other:
            other.settimeout(None)
            other.sendall(first)
            back = threading.Thread(target=pump, args=(self.client, other), daemon=True)
            back.start()
            sent = pump(other, self.client)
            back.join(5)
            return sent


def pump(source: socket.socket, target: socket.socket) -> int:
    """Copy bytes until the source ends, then half-close the target. Returns the count."""
    sent = 0
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
            sent += len(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return sent


def _read_headers(reader: Any) -> Iterator[tuple[str, str]]:
    while (line := reader.readline(65536).strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        yield name.strip(), value.strip()


def _connection(host: str, port: int, tls: bool) -> http.client.HTTPConnection:
    if tls:
        return http.client.HTTPSConnection(host, port, timeout=60, context=_UNVERIFIED)
    return http.client.HTTPConnection(host, port, timeout=60)


def _pieces(answer: http.client.HTTPResponse, length: int | None) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK if length is None else max(1, min(CHUNK, length))))
    while got := answer.readinto(buffer):
        yield buffer[:got]


def _faulty(
    pieces: Iterator[memoryview], length: int | None, fault: Fault, board: Switchboard, client: socket.socket
) -> Iterator[memoryview]:
    # The body as the fault lets it through. Without a length, `share` is that of the first piece.
    if fault.kind in ("none", "hang"):
        yield from pieces
        return
    left = None if length is None else int(length * fault.share)
    for piece in pieces:
        if fault.kind == "zeros":
            yield memoryview(bytes(len(piece)))
            continue
        if fault.kind == "trickle":
            yield from _trickle(piece, fault, board, client)
            continue
        keep = int(len(piece) * fault.share) if left is None else min(left, len(piece))
        if keep < len(piece):
            yield piece[:keep]
            if fault.kind == "cut" or not board.wait_for_change(fault, client):
                raise GoneError
            yield piece[keep:]
            yield from pieces
            return
        left = None if left is None else left - keep
        yield piece


def _trickle(
    piece: memoryview, fault: Fault, board: Switchboard, client: socket.socket
) -> Iterator[memoryview]:
    at, step = 0, max(1, fault.rate // 10)
    while at < len(piece):
        if board.fault is not fault:
            yield piece[at:]
            return
        yield piece[at : at + step]
        at += step
        if not board.wait_for_change(fault, client, 0.1):
            raise GoneError
