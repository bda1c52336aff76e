"""A registry of which only /v2/ is asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self

from agent.daemon.settings import Origin


class SmallRegistry:
    """Answers /v2/ with `status` and a registry's mark, or as it is told; by TLS with this context."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.body = b""
        self.status, self.mark = 401, b"Www-Authenticate: Bearer\r\n"
        self.silent = False
        """It takes connections and answers nothing."""
        self.asked = 0
        self.server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.silent:
                await reader.read()
                return
            head = b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (self.status, self.mark, len(self.body))
            writer.write(head + self.body)

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self.server is not None
        self.server.close()

    @property
    def origin(self) -> Origin:
        assert self.server is not None
        return Origin("127.0.0.1", self.server.sockets[0].getsockname()[1], tls=self.tls is not None)
