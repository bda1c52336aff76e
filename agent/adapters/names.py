"""Host names to addresses through the system's resolver, in a thread that lives for one question.

asyncio's own way keeps its threads for ever, and a resolver that hangs would hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading

from agent.errors import PortError


class SystemNames:
    """getaddrinfo(3)."""

    async def addresses(self, host: str, *, deadline_s: float) -> tuple[str, ...]:
        """See ports.Names."""
        with contextlib.suppress(ValueError):
            return (str(ipaddress.ip_address(host)),)  # without a thread, of which a node may have none left
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...] | OSError] = loop.create_future()

        def ask() -> None:
            found: tuple[str, ...] | OSError
            try:
                rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found = tuple(dict.fromkeys(str(row[4][0]) for row in rows))
            except OSError as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_settle, answer, found)

        try:
            threading.Thread(target=ask, name="names", daemon=True).start()
        except RuntimeError as error:  # no more tasks
            raise PortError("NNA0804", f"{host} was not resolved", cause=str(error)) from error
        try:
            async with asyncio.timeout(deadline_s):
                found = await answer
        except TimeoutError as error:
            raise PortError("NNA0804", f"{host} was not resolved", cause=f"no answer in {deadline_s:g} s") from error
        if isinstance(found, OSError):
            raise PortError("NNA0804", f"{host} was not resolved", cause=found.strerror or str(found)) from found
        return found


def _settle(answer: asyncio.Future[tuple[str, ...] | OSError], found: tuple[str, ...] | OSError) -> None:
    if not answer.done():
        answer.set_result(found)
