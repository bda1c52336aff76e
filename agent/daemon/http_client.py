"""The daemon's HTTP/1.1 client, as far as probes need it: one bounded answer at a time. Each failure becomes
a ProbeError of a kind that the failure detector knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from agent.config.forms import is_metadata
from agent.errors import WANTS
from agent.health.evidence import Failure

_HEADER_CAP = 16384
_PIECE = 65536
BODY_CAP = 65536

_address = functools.lru_cache(maxsize=64)(ipaddress.ip_address)

Headers: TypeAlias = tuple[tuple[str, str], ...]
CLOSE: Headers = (("Connection", "close"),)


class ProbeError(Exception):
    """A probe that failed, in the failure detector's words."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used again after the body."""
        return self.headers.get("connection", "").lower() != "close" and "content-length" in self.headers


@dataclass(frozen=True, slots=True)
class Url:
    """Where a probe of the mirror goes. `tls`: only whether its port accepts is looked at."""

    host: str
    port: int
    path: str
    tls: bool = False

    @property
    def authority(self) -> str:
        """host:port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(text: str) -> Url:
    """An http(s) URL of the configuration, which has checked it."""
    parts = urlsplit(text)
    host = "127.0.0.1" if parts.hostname in (None, "localhost") else str(parts.hostname)
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(host, parts.port or (443 if tls else 80), path, tls)


class Connection:
    """One connection to an address, for one question after the other. The caller holds the deadline: whoever
    gives up cancels the task that waits here, and closes the connection.
    """

    def __init__(self, host: str, port: int, tls_name: str = "") -> None:
        """Begin to connect; by TLS where `tls_name` is the server's. Raises ProbeError where that fails at
        once.

        Certificates are not verified, as by the kubelet's probes: nothing secret is sent, and the question is
        whether there is an answer. Where a server refuses the handshake, `ask` raises ssl.SSLError.
        """
        self._where = f"connect to {host}:{port}"
        self._tls_name = tls_name
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._path = ""
        self._buffer = bytearray()
        self._ended = False
        """The other side has sent its last byte."""
        self._socket = _opened(host, self._where)
        code = self._socket.connect_ex((host, port))
        self._stands = code == 0  # on the loopback it mostly does by now
        if code not in (0, errno.EINPROGRESS):
            self.close()
            if code == errno.EADDRNOTAVAIL and not _has_source(self._socket.family, host):
                raise ProbeError(Failure.UNREACHABLE, f"{self._where}: this node has no address for it")
            raise _probe_error(OSError(code, os.strerror(code)), self._where)

    @property
    def idle(self) -> bool:
        """Whether another question can be asked: since the last answer came neither a byte nor the end."""
        if self._ended or self._buffer or self._socket.fileno() == -1:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def connect(self) -> None:
        """Wait until the connection stands. Raises ProbeError."""
        if not self._stands:
            await _writable(self._socket.fileno())
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise _probe_error(OSError(code, os.strerror(code)), self._where)
            self._stands = True
        if self._tls_name and self._stream is None:
            with self._failures():
                self._stream = await asyncio.open_connection(
                    sock=self._socket, ssl=_unverified(), server_hostname=self._tls_name
                )

    async def ask(self, path: str, authority: str, headers: Headers = ()) -> Answer:
        """GET `path` (or a whole URL, through a proxy), and wait for the answer's head. Raises ProbeError."""
        await self.connect()
        self._path = path
        with self._failures():
            request = _request(path, authority, headers)
            if self._stream is not None:
                self._stream[1].write(request)
            else:
                await asyncio.get_running_loop().sock_sendall(self._socket, request)
            head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, _, rest = head[0].partition(" ")
            if not version.startswith("HTTP/1."):
                raise ValueError(f"begins with {head[0][:40]!r}")
            return Answer(int(rest[:3]), fields(head[1:]))

    async def body(self, answer: Answer, take: Callable[[bytes], object], cap: int = BODY_CAP) -> None:
        """Give the answer's body to `take`, piece by piece, up to `cap` bytes of it. Raises ProbeError."""
        headers = answer.headers
        with self._failures():
            if answer.status in (204, 304):
                return
            if headers.get("transfer-encoding", "").lower() == "chunked":
                await self._chunks(take, cap)
            elif "content-length" in headers:
                await self._exactly(int(headers["content-length"]), take, cap)
            else:
                await self._rest(take, cap)

    async def end(self) -> str:
        """Wait until the other side ends an idle connection; how it did, in words."""
        loop = asyncio.get_running_loop()
        try:
            while await loop.sock_recv(self._socket, _PIECE):
                pass  # nobody asked
        except OSError as error:
            return error.strerror or str(error)
        return "end of file"

    def close(self) -> None:
        """At once: nothing is flushed or waited for."""
        if self._stream is not None:
            self._stream[1].transport.abort()
        self._socket.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """What can happen to a question, as a ProbeError."""
        try:
            yield
        except EOFError as error:
            raise ProbeError(Failure.CLOSED, f"closed after {error} bytes of {self._path}") from None
        except OverflowError:
            detail = f"header of {self._path} is longer than {_HEADER_CAP} bytes"
            raise ProbeError(Failure.CONTENT, detail) from None
        except ValueError as error:
            raise ProbeError(Failure.CONTENT, f"answer to {self._path} is not HTTP: {error}") from None
        except ssl.SSLError:
            raise  # an OSError too
        except OSError as error:
            raise _probe_error(error, f"GET {self._path}" if self._path else self._where) from error

    async def _chunks(self, take: Callable[[bytes], object], cap: int) -> None:
        while (size := int((await self._until(b"\r\n")).split(b";")[0], 16)) != 0:
            await self._exactly(size, take, cap)
            cap -= size
            await self._until(b"\r\n")
        await self._until(b"\r\n")

    async def _exactly(self, size: int, take: Callable[[bytes], object], cap: int) -> None:
        if not 0 <= size <= cap:
            raise ValueError(f"a body of {size} bytes")
        while size:
            while not self._buffer:
                await self._more()
            piece = self._taken(min(size, len(self._buffer)))
            size -= len(piece)
            take(piece)

    async def _rest(self, take: Callable[[bytes], object], cap: int) -> None:
        """As far as the end of the connection."""
        while True:
            cap -= len(self._buffer)
            if cap < 0:
                raise ValueError("a body that is too long")
            if self._buffer:
                take(self._taken(len(self._buffer)))
            if self._ended:
                return
            await self._more()

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0 or at > _HEADER_CAP:
            if len(self._buffer) > _HEADER_CAP:
                raise OverflowError
            await self._more()
        return self._taken(at + len(mark))[:at]

    async def _more(self) -> None:
        """Wait for bytes, or for the end. EOFError: that is there already."""
        if self._ended:
            raise EOFError(len(self._buffer))
        if self._stream is not None:
            piece = await self._stream[0].read(_PIECE)
        else:
            piece = await asyncio.get_running_loop().sock_recv(self._socket, _PIECE)
        self._ended = not piece
        self._buffer += piece

    def _taken(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece


async def _writable(descriptor: int) -> None:
    """Wait until something can be written, or never will be."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


def fields(lines: Iterable[str]) -> dict[str, str]:
    """The fields of a header; names in lower case, of two with the same one the last."""
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


@functools.lru_cache(maxsize=32)
def _is_metadata(host: str) -> bool:
    """Whether `host` is an address that is never asked; a name is none."""
    try:
        return is_metadata(_address(host.partition("%")[0]))
    except ValueError:
        return False


@functools.lru_cache(maxsize=32)
def _request(path: str, authority: str, headers: Headers) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {authority}", "User-Agent: nydus-agent", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode()


def _opened(host: str, where: str) -> socket.socket:
    """A socket that never waits. Raises ProbeError."""
    if _is_metadata(host):
        detail = f"{host} is link-local, or of a cloud's metadata service: not asked"
        raise ProbeError(Failure.UNREACHABLE, detail)
    try:
        family = socket.AF_INET if _address(host).version == 4 else socket.AF_INET6
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except ValueError as error:  # a name, whose resolution would hold the loop up
        raise ProbeError(Failure.UNREACHABLE, f"{where}: not an address") from error
    except OSError as error:
        raise _probe_error(error, where) from error


def _has_source(family: int, host: str) -> bool:
    """Whether this node has an address from which `host` can be asked: a datagram socket's connect(2) sends
    nothing, looks the address up, and needs no port of TCP's.
    """
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asks:
        return asks.connect_ex((host, 9)) not in (errno.EADDRNOTAVAIL, errno.ENETUNREACH)
    return True


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _probe_error(error: OSError, what: str) -> ProbeError:
    match error:
        case ConnectionRefusedError():
            failure = Failure.REFUSED
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            failure = Failure.RESET
        case _ if error.errno == errno.ETIMEDOUT:
            failure = Failure.SILENT
        case _ if error.errno in WANTS:
            failure = Failure.WANT
        case _:
            failure = Failure.UNREACHABLE
    return ProbeError(failure, f"{what}: {error.strerror or error}")


def ignore(_piece: bytes) -> None:
    """For a body that says nothing."""
