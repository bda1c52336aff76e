"""HTTP/1.1 as far as probes need it, on asyncio's streams and without ssl (which costs 4 MB of memory): one request,
one bounded answer. Failures become ProbeError with the kind that the health machine knows.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.health.evidence import Failure

_HEADER_CAP = 16384
_PIECE = 65536
BODY_CAP = 65536


_WANTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class ProbeError(Exception):
    """A probe that failed, in the health machine's words."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Url:
    """Where a probe goes. `tls` URLs are never spoken to: only whether their port accepts can be seen."""

    host: str
    port: int
    path: str
    tls: bool = False

    @property
    def authority(self) -> str:
        """host:port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used again."""
        return self.headers.get("connection", "").lower() != "close" and "content-length" in self.headers


def parse_url(text: str) -> Url:
    """An http(s) URL of the configuration, which has checked it."""
    parts = urlsplit(text)
    host = "127.0.0.1" if parts.hostname in (None, "localhost") else str(parts.hostname)
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(host, parts.port or (443 if tls else 80), path, tls)


class Connection:
    """One connection, for one or more requests in turn."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect to an address. Raises ProbeError. The caller holds the deadline."""
        if link_local(host):
            raise ProbeError(Failure.UNREACHABLE, f"{host} is link-local, where a cloud's metadata lives: not asked")
        try:
            return cls(*await asyncio.open_connection(host, port, limit=_HEADER_CAP))
        except OSError as error:
            raise _probe_error(error, f"connect to {host}:{port}") from error

    async def get(self, path: str, authority: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET `path` (or a whole URL, through a proxy). Raises ProbeError. The caller holds the deadline."""
        body = bytearray()
        answer = await self.read(path, authority, headers, body.extend)
        return Answer(answer.status, answer.headers, bytes(body))

    async def read(
        self,
        path: str,
        authority: str,
        headers: Mapping[str, str] | None,
        take: Callable[[bytes], None],
        cap: int = BODY_CAP,
    ) -> Answer:
        """As `get`, but the body goes to `take` piece by piece, and up to `cap` bytes of it; the answer has none."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {authority}", "User-Agent: nydus-agent", "Accept: */*"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            self._writer.write("\r\n".join([*lines, "", ""]).encode())
            await self._writer.drain()
            return await self._answer(take, cap)
        except asyncio.IncompleteReadError as error:
            raise ProbeError(Failure.CLOSED, f"closed after {len(error.partial)} bytes of {path}") from error
        except asyncio.LimitOverrunError as error:
            raise ProbeError(Failure.CONTENT, f"header of {path} is longer than {_HEADER_CAP} bytes") from error
        except ValueError as error:
            raise ProbeError(Failure.CONTENT, f"answer to {path} is not HTTP: {error}") from error
        except OSError as error:
            raise _probe_error(error, f"GET {path}") from error

    async def ended(self) -> str:
        """Wait until the other side ends an idle connection; how it did."""
        try:
            while await self._reader.read(1024):
                pass
        except OSError as error:
            return error.strerror or str(error)
        return "end of file"

    def close(self) -> None:
        """At once: nothing is flushed or waited for."""
        self._writer.transport.abort()

    async def _answer(self, take: Callable[[bytes], None], cap: int) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"begins with {head[0][:40]!r}")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        status, length = int(rest[:3]), 0
        async for piece in self._pieces(headers, cap):
            length += len(piece)
            if length > cap:
                raise ValueError("a body that is too long")
            take(piece)
        return Answer(status, headers, b"")

    async def _pieces(self, headers: Mapping[str, str], cap: int) -> AsyncIterator[bytes]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while (size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)) != 0:
                async for piece in self._exactly(size, cap):
                    yield piece
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        elif "content-length" in headers:
            async for piece in self._exactly(int(headers["content-length"]), cap):
                yield piece
        else:
            while piece := await self._reader.read(_PIECE):
                yield piece

    async def _exactly(self, size: int, cap: int) -> AsyncIterator[bytes]:
        if not 0 <= size <= cap:
            raise ValueError(f"a body of {size} bytes")
        while size:
            piece = await self._reader.read(min(size, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece


def link_local(host: str) -> bool:
    """Whether an address is one that is never asked: 169.254/16 and fe80::/10, mapped ones too."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local


def in_want(error: OSError) -> bool:
    """Whether this is the agent's own lack: of a descriptor, memory, a buffer, or a port to connect from."""
    return error.errno in _WANTS


def _probe_error(error: OSError, what: str) -> ProbeError:
    match error:
        case ConnectionRefusedError():
            failure = Failure.REFUSED
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            failure = Failure.RESET
        case _ if error.errno == errno.ETIMEDOUT:
            failure = Failure.SILENT
        case _ if in_want(error):
            failure = Failure.WANT
        case _:
            failure = Failure.UNREACHABLE
    return ProbeError(failure, f"{what}: {error.strerror or error}")
