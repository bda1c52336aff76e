"""Host names to addresses through the system's resolver, in a thread that lives for one question: a resolver that hangs
holds up neither the loop nor the end of the process.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable

from agent.errors import PortError


class SystemNames:
    """getaddrinfo(3)."""

    def addresses(self, host: str, told: Callable[[tuple[str, ...] | PortError], None]) -> None:
        """See ports.Names."""
        address = _address(host)
        if address:  # without a thread, of which a node may have none left
            told((address,))
            return
        try:
            threading.Thread(target=lambda: told(_asked(host)), name="names", daemon=True).start()
        except RuntimeError as error:  # no more tasks
            told(PortError("NNA0804", f"{host} was not resolved", cause=str(error)))


def _address(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return ""


def _asked(host: str) -> tuple[str, ...] | PortError:
    # As bytes: Python's codec for names of other scripts costs 0.7 MB, and a registry's name needs none.
    name = host.encode() if host.isascii() else host
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return PortError("NNA0804", f"{host} was not resolved", cause=error.strerror or str(error))
    except UnicodeError as error:  # no name at all: a part of it is empty, or too long
        return PortError("NNA0804", f"{host} was not resolved", cause=str(error))
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows))
