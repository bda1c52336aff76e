"""HTTP/1.1 as far as probes need it, on asyncio's streams and without ssl (which costs 4 MB of memory): one request,
one bounded answer. Failures become ProbeError with the kind that the health machine knows.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.health.evidence import Failure

_HEADER_CAP = 16384
BODY_CAP = 65536


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
        """Raises ProbeError. The caller holds the deadline."""
        try:
            return cls(*await asyncio.open_connection(host, port, limit=_HEADER_CAP))
        except OSError as error:
            raise _probe_error(error, f"connect to {host}:{port}") from error

    async def get(self, path: str, authority: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET `path` (or a whole URL, through a proxy). Raises ProbeError. The caller holds the deadline."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {authority}", "User-Agent: nydus-agent", "Accept: */*"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            self._writer.write("\r\n".join([*lines, "", ""]).encode())
            await self._writer.drain()
            return await self._answer()
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

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"begins with {head[0][:40]!r}")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return Answer(int(rest[:3]), headers, await self._body(headers))

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        if "content-length" in headers:
            length = int(headers["content-length"])
            if not 0 <= length <= BODY_CAP:
                raise ValueError(f"a body of {length} bytes")
            return await self._reader.readexactly(length)
        body = await self._reader.read(BODY_CAP + 1)
        while body and len(body) <= BODY_CAP and (more := await self._reader.read(BODY_CAP)):
            body += more
        return body

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size < 0 or len(body) + size > BODY_CAP:
                raise ValueError("a body that is too long")
            body += (await self._reader.readexactly(size + 2))[:-2]
            if size == 0:
                return body


def _probe_error(error: OSError, what: str) -> ProbeError:
    match error:
        case ConnectionRefusedError():
            failure = Failure.REFUSED
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            failure = Failure.RESET
        case _ if error.errno == errno.ETIMEDOUT:
            failure = Failure.SILENT
        case _:
            failure = Failure.UNREACHABLE
    return ProbeError(failure, f"{what}: {error.strerror or error}")
