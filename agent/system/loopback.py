"""What listens on the node's loopback for a moment, to see how others speak: root's oneshots only.

Every local user can connect there, so each connection's other end is looked up first.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import urlsplit

from agent.errors import HttpError
from agent.ports import TlsSight
from agent.system.http import trusted_by, why_not

PeerUid: TypeAlias = Callable[[tuple[str, int], tuple[str, int]], int | None]
"""(the other end, ours) -> its user; None where that cannot be told. The kernel is asked about this one
connection: its table may hold tens of thousands of others."""


def uids_of(*users: str) -> frozenset[int]:
    """The uids of those users (names or uids) that exist."""
    found = {int(user) for user in users if user.isdigit()}
    for user in users:
        try:
            found.add(pwd.getpwnam(user).pw_uid)
        except KeyError:
            continue
    return frozenset(found)


_HEAD_CAP = 65536
_PIECE = 65536
_IDLE_S = 15.0
_TASK = b"x-dragonfly-task-id"


class Relay:
    """`with Relay(mirror) as relay:`: serves on a port of the node's loopback, for root's connections
    only.
    """

    def __init__(self, mirror: tuple[str, int], uid_of: PeerUid) -> None:
        self.relayed = 0
        """Bytes of bodies of complete answers (200, 206) and of tunnels."""
        self.tasks = 0
        """... of which in answers that named a task."""
        self.answers: Counter[str] = Counter()
        self._mirror, self._uid_of = mirror, uid_of
        self._lock = threading.Lock()
        # A user may hold all ports of 127.0.0.1; of an address that nobody can guess nobody holds any.
        host = "127." + ".".join(str(1 + byte % 254) for byte in os.urandom(3))
        self._listener = socket.create_server((host, 0), backlog=64)
        self._open: set[socket.socket] = set()
        self._closed = False

    @property
    def url(self) -> str:
        """What nydusd is told."""
        return "http://{}:{}".format(*self._listener.getsockname())

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, name="relay", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: the listener and all connections are closed, their threads end with them."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._closed:
            try:
                client, peer = self._listener.accept()
            except OSError:
                return
            if self._uid_of(peer, self._listener.getsockname()) != 0:  # others must not add to the count
                client.close()
                continue
            threading.Thread(target=self._handle, args=(client,), name="relay", daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._held(client):
            head, rest = _read_head(client)
            if not head:
                return
            try:
                mirror = socket.create_connection(self._mirror, timeout=_IDLE_S)
            except OSError:
                self._count("refused")
                return
            with self._held(mirror):
                if head.startswith(b"CONNECT "):
                    self._tunnel(client, mirror, head + rest)
                else:
                    self._exchange(client, mirror, _closing(head) + rest)

    def _exchange(self, client: socket.socket, mirror: socket.socket, request: bytes) -> None:
        mirror.sendall(request)
        head, body = _read_head(mirror)
        status = _status(head)
        self._count(status)
        client.sendall(_closing(head))
        task = any(line.lower().startswith(_TASK + b":") for line in head.split(b"\r\n"))
        data = status in ("200", "206")
        body = body or mirror.recv(_PIECE)
        while body:
            if data:  # counted before it is passed on: who has read a byte must find it counted
                self._add(len(body), task=task)
            client.sendall(body)
            body = mirror.recv(_PIECE)

    def _tunnel(self, client: socket.socket, mirror: socket.socket, request: bytes) -> None:
        """CONNECT: what is inside is not ours to see, so none of it counts as a task."""
        self._count("tunnel")
        mirror.sendall(request)
        back = threading.Thread(target=self._pump, args=(client, mirror), name="relay", daemon=True)
        back.start()
        self._pump(mirror, client, count=True)
        back.join(_IDLE_S)

    def _pump(self, source: socket.socket, target: socket.socket, *, count: bool = False) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                if count:
                    self._add(len(piece), task=False)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def _count(self, status: str) -> None:
        with self._lock:
            self.answers[status] += 1

    def _add(self, size: int, *, task: bool) -> None:
        with self._lock:
            self.relayed += size
            self.tasks += size if task else 0

    @contextlib.contextmanager
    def _held(self, one: socket.socket) -> Iterator[None]:
        one.settimeout(_IDLE_S)
        with self._lock:
            self._open.add(one)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(one)
            one.close()


def _status(head: bytes) -> str:
    """The three digits of a status line: nothing else of what a mirror says goes into a result."""
    found = head[9:12].decode(errors="replace")
    return found if head[12:13] in (b" ", b"\r") and found.isascii() and found.isdigit() else "none"


def _read_head(source: socket.socket) -> tuple[bytes, bytes]:
    """(head with its empty line, what came after it); empty where the other side closed or sent too much."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = source.recv(_PIECE)
        if not piece or len(got) > _HEAD_CAP:
            return b"", b""
        got += piece
    head, _, rest = got.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _closing(head: bytes) -> bytes:
    """The head with `Connection: close`: one exchange per connection, so that a body ends where the stream
    ends.
    """
    lines = [
        line
        for line in head.rstrip(b"\r\n").split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"proxy-connection:", b"keep-alive:"))
    ]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


_HTTPS_PORT = 443
_HANDSHAKE = 0x16  # content type of the record that a TLS client sends first (RFC 8446, section 5.1)


class RegistryTls:
    """The `Tls` port."""

    def __init__(self, uid_of: PeerUid) -> None:
        self._uid_of = uid_of

    def verify(self, host: str, ca: str, *, deadline_s: float) -> str:
        """See ports.Tls."""
        trusted = trusted_by(ca)
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port or _HTTPS_PORT
        try:
            with (
                socket.create_connection((name, port), timeout=deadline_s) as plain,
                trusted.wrap_socket(plain, server_hostname=name),
            ):
                return ""
        except ssl.SSLError as error:
            return why_not(error)
        except OSError as error:
            raise HttpError("NNA0821", f"no answer from {host}", cause=str(error)) from error

    def sight(self, fetch: Callable[[str], None], *, user: str, deadline_s: float) -> TlsSight:
        """See ports.Tls."""
        allowed = uids_of("root", user)
        try:
            listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        except OSError as error:
            raise HttpError("NNA0821", "cannot listen on the loopback", cause=str(error)) from error
        seen = [TlsSight.NOBODY]
        with listener:
            args = (listener, seen, self._uid_of, allowed, deadline_s)
            thread = threading.Thread(target=_watch, args=args, daemon=True)
            thread.start()
            with contextlib.suppress(HttpError):
                fetch(f"127.0.0.1:{listener.getsockname()[1]}")
            # shutdown wakes the accept of a thread that still waits; close alone would not (accept(2) on
            # Linux).
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(deadline_s)
        return seen[0]


def _watch(
    listener: socket.socket, seen: list[TlsSight], uid_of: PeerUid, allowed: frozenset[int], deadline_s: float
) -> None:
    """Cut off each client after its first byte (a mirror may try again), until the listener or the time
    ends.
    """
    end = time.monotonic() + deadline_s
    while (left := end - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            client, peer = listener.accept()
            with client:
                if uid_of(peer, listener.getsockname()) not in allowed:
                    continue
                client.settimeout(left)
                first = client.recv(1)
        except OSError:
            return
        if first and seen[0] is TlsSight.NOBODY:
            seen[0] = TlsSight.TLS if first[0] == _HANDSHAKE else TlsSight.PLAIN
