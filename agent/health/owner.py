"""Whose is the mirror's port? The kernel names the socket that would get a connection
(SocketTables.find_listener); here that socket's user is judged.

When dfdaemon dies, any local user can bind its port and feed bytes to nydusd, so a local mirror counts only
while its listener belongs to root or the configured user.
"""

from __future__ import annotations

import enum
import ipaddress

from agent.facts.node import Listener


class Owner(enum.StrEnum):
    """What the kernel says of the mirror's port."""

    OK = "ok"
    FOREIGN = "foreign"
    """Another user's socket would get the connections to the mirror."""
    NONE = "none"
    """Nobody listens here: the mirror is dead, remote, or behind a rewritten address (NodePort,
    ClusterIP).
    """
    UNKNOWN = "unknown"
    """The kernel did not tell, or what it told need not be where connections go (see `is_loopback`)."""


def judge(found: Listener | None, address: str, port: int, allowed: frozenset[int]) -> tuple[Owner, str]:
    """The owner of `address:port`, where `found` would get the connections to it; with the evidence in
    words.
    """
    if found is None:
        return Owner.NONE, f"nobody listens on {_bracketed(address)}:{port} here"
    held = f"{_bracketed(found.address)}:{found.port} is held by uid {found.uid}"
    return Owner.OK if found.uid in allowed else Owner.FOREIGN, held


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def is_loopback(address: str) -> bool:
    """Whether connections to the address go to a socket of this node for certain. To any other address (a
    NodePort, a ClusterIP) they may be rewritten before they reach the socket that the kernel names.
    """
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
