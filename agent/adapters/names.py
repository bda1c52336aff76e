"""Host names to addresses through the system's resolver, in a thread that lives for one question: a resolver
that hangs holds up neither the event loop nor the end of the process, as asyncio's own pool of threads would.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from typing import TypeAlias

from agent.errors import PortError

_Answer: TypeAlias = tuple[str, ...] | PortError


class SystemNames:
    """getaddrinfo(3)."""

    async def addresses(self, host: str) -> tuple[str, ...]:
        """See ports.Names."""
        address = _address(host)
        if address:  # without a thread, of which a node may have none left
            return (address,)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer] = loop.create_future()
        try:
            threading.Thread(target=_resolve, args=(host, loop, answer), name="names", daemon=True).start()
        except RuntimeError as error:  # no more tasks
            raise _unresolved(host, str(error)) from error
        resolved = await answer
        if isinstance(resolved, PortError):
            raise resolved
        return resolved


def _address(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return ""


def _resolve(host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[_Answer]) -> None:
    """In the thread."""
    resolved = _resolved(host)
    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        loop.call_soon_threadsafe(_settle, answer, resolved)


def _settle(answer: asyncio.Future[_Answer], resolved: _Answer) -> None:
    if not answer.done():  # whoever asked may have given up
        answer.set_result(resolved)


def _resolved(host: str) -> _Answer:
    # As bytes: Python's codec for names of other scripts costs 0.7 MB, and a registry's name needs none.
    name = host.encode() if host.isascii() else host
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return _unresolved(host, error.strerror or str(error))
    except UnicodeError as error:  # no name at all: a part of it is empty, or too long
        return _unresolved(host, str(error))
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows))


def _unresolved(host: str, cause: str) -> PortError:
    return PortError("NNA0804", f"{host} was not resolved", cause=cause)
