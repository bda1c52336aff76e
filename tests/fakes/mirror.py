"""A small Dragonfly on the loopback: a health port and a proxy port on asyncio, each able to fail in its own
way.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.fakes.free_port import free_port


class Way(enum.Enum):
    """How a port answers."""

    WELL = enum.auto()
    HANG = enum.auto()  # accepts and says nothing
    RESET = enum.auto()
    CLOSE = enum.auto()  # accepts, reads, closes without an answer
    CUT = enum.auto()  # half of the body
    ZEROS = enum.auto()
    ERROR = enum.auto()  # 500
    LIMITED = enum.auto()  # 429
    TRICKLE = enum.auto()  # the right body, in ten pieces, one each tenth of a second
    NOISE = enum.auto()  # not HTTP
    ENDLESS = enum.auto()  # a header without an end


_FETCHES = (Way.WELL, Way.CUT, Way.ZEROS, Way.TRICKLE)


class SmallMirror:
    """Serves on ports of its own choice (or the given ones); `die` and `revive` close and open them."""

    def __init__(self, proxy_port: int = 0, ping_port: int = 0) -> None:
        self.proxy_way = Way.WELL
        self.ping_way = Way.WELL
        self.proxy_port = proxy_port
        self.ping_port = ping_port
        self.chunked = False
        self.hang_first = 0
        """How many of the first pings get no answer."""
        self.hang_proxy_first = 0
        """How many of the first requests through the proxy get none."""
        self.delay_s = 0.0
        """Before each answer."""
        self.cannot_reach = ""
        """Targets in which this occurs are out of the mirror's reach: it closes the connection, as dfdaemon
        does.
        """
        self.forwards = False
        """The proxy hands on what the target answered as it is, not only its body."""
        self.pings = 0
        self.accepted = 0
        """Connections."""
        self.targets: list[str] = []
        """What was asked for through the proxy."""
        self.p2p = 0
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def ping_url(self) -> str:
        return f"http://127.0.0.1:{self.ping_port}/healthy"

    async def __aenter__(self) -> Self:
        await self.revive()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.die()

    async def revive(self) -> None:
        self.proxy_port, self.ping_port = self.proxy_port or free_port(), self.ping_port or free_port()
        proxy = await asyncio.start_server(self._proxy, "127.0.0.1", self.proxy_port, backlog=512)
        ping = await asyncio.start_server(self._ping, "127.0.0.1", self.ping_port, backlog=512)
        self._servers = [proxy, ping]

    async def die(self) -> None:
        for server in self._servers:
            server.close()
        self.drop_connections()
        self._servers = []
        await asyncio.sleep(0.01)  # what was accepted just now gets its transport, and is closed with it

    def drop_connections(self) -> None:
        """End every connection, as a mirror does that closes idle ones."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def all_fail(self, way: Way) -> None:
        self.proxy_way = self.ping_way = way

    async def _ping(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._kept(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                self.pings += 1
                way = Way.HANG if self.pings <= self.hang_first else self.ping_way
                if not await self._answer(writer, way, b""):
                    return

    async def _proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._kept(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split(" ")[1]
            self.targets.append(target)
            self.p2p += "X-Dragonfly-Use-P2P: true" in head
            way = Way.HANG if len(self.targets) <= self.hang_proxy_first else self.proxy_way
            if self.cannot_reach and self.cannot_reach in target:
                return
            answer = await self._fetch(target) if way in _FETCHES else b""
            if self.forwards and way is Way.WELL:
                writer.write(answer)
                return
            await self._answer(writer, way, answer.partition(b"\r\n\r\n")[2])

    @contextlib.asynccontextmanager
    async def _kept(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self.accepted += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                yield
        except asyncio.CancelledError:
            writer.transport.abort()  # close() would wait for a client that may not read any more
            raise
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _fetch(self, target: str) -> bytes:
        parts = urlsplit(target)
        tls = ssl._create_unverified_context() if parts.scheme == "https" else None
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
        with contextlib.closing(writer):
            writer.write(
                f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
            )
            return await reader.read()

    async def _answer(self, writer: asyncio.StreamWriter, way: Way, body: bytes) -> bool:
        """Whether the connection may go on."""
        await asyncio.sleep(self.delay_s)
        match way:
            case Way.WELL:
                writer.write(self._encoded(200, body))
            case Way.ERROR:
                writer.write(self._encoded(500, b""))
            case Way.LIMITED:
                writer.write(self._encoded(429, b""))
            case Way.ZEROS:
                writer.write(self._encoded(200, bytes(len(body))))
            case Way.TRICKLE:
                whole = self._encoded(200, body)
                step = len(body) // 10 + 1
                for at in range(0, len(whole), step):
                    writer.write(whole[at : at + step])
                    await writer.drain()
                    await asyncio.sleep(0.1)
            case Way.CUT:
                writer.write(self._encoded(200, body)[: -max(1, len(body) // 2)])
                return False
            case Way.HANG:
                await asyncio.sleep(3600)
            case Way.RESET:
                linger = struct.pack("ii", 1, 0)  # close with a reset instead of an end of file
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            case Way.CLOSE:
                return False
            case Way.NOISE:
                writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            case Way.ENDLESS:
                writer.write(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 100_000)
        await writer.drain()
        return True

    def _encoded(self, status: int, body: bytes) -> bytes:
        if self.chunked:
            pieces = b"".join(
                b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:]) if part
            )
            return b"HTTP/1.1 %d Status\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (status, pieces)
        return b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
