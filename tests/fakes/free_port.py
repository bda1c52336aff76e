"""A port that stays free until it is used: also while it is closed again, or before it is opened."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_GIVEN = set[int]()
"""One that was given and is not used yet looks free."""


def free_port() -> int:
    """One that the kernel gives to nobody who does not ask for it by its number: neither to a listener on
    port 0 nor to a connection, which could even meet itself there.
    """
    first_given = int(_RANGE.read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST, first_given)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port
