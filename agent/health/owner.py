"""Whose port is it? Reads the kernel's socket tables as text (proc_net_tcp: Documentation/networking/proc_net_tcp.rst).

When dfdaemon dies, any local user can bind its port and feed bytes to nydusd, so a local mirror counts only while
its listener belongs to root or the configured user.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections.abc import Iterable

from agent.dataclass import dataclass

_LISTEN = "0A"
_UID = 7  # columns of a row, split at blanks
_INODE = 9


class Owner(enum.StrEnum):
    """What the socket tables say of the mirror's port."""

    OK = "ok"
    FOREIGN = "foreign"
    NONE = "none"
    """Nobody listens here: the mirror is dead, remote, or behind a rewritten address (NodePort, ClusterIP)."""
    UNKNOWN = "unknown"
    """The tables could not be read."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket."""

    address: str
    port: int
    uid: int
    inode: int


def listeners(table: str) -> tuple[Listener, ...]:
    """The listening rows of /proc/net/tcp or tcp6. Rows that cannot be read are left out (a table may be cut short)."""
    found = (_listener(line.split()) for line in table.splitlines()[1:])
    return tuple(row for row in found if row is not None)


def judge(rows: Iterable[Listener], address: str, port: int, allowed: frozenset[int]) -> tuple[Owner, str]:
    """The owner of `address:port` among `rows`, with the evidence in words.

    A row on the wildcard address counts, one on :: also for IPv4 (a dual-stack socket looks like that). One foreign
    row is enough: with SO_REUSEPORT the kernel would share connections out.
    """
    mine = covering(rows, address, port)
    if not mine:
        return Owner.NONE, f"nobody listens on {address}:{port} here"
    for row in mine:
        if row.uid not in allowed:
            return Owner.FOREIGN, f"{row.address}:{port} is held by uid {row.uid}"
    return Owner.OK, f"{mine[0].address}:{port} is held by uid {mine[0].uid}"


def covering(rows: Iterable[Listener], address: str, port: int) -> list[Listener]:
    """The rows that take connections to `address:port`."""
    return [row for row in rows if row.port == port and _covers(row.address, address)]


def _listener(columns: list[str]) -> Listener | None:
    if len(columns) <= _INODE or columns[3] != _LISTEN:
        return None
    try:
        host, port = columns[1].split(":")
        return Listener(_address(host), int(port, 16), int(columns[_UID]), int(columns[_INODE]))
    except ValueError:
        return None


def _address(text: str) -> str:
    # Each group of four bytes is printed as a number in the machine's byte order, which is little-endian on every
    # architecture that this package supports.
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    found = ipaddress.ip_address(raw)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


@functools.lru_cache(maxsize=64)  # the same two, each second
def _covers(row: str, address: str) -> bool:
    wanted = ipaddress.ip_address(address)
    held = ipaddress.ip_address(row)
    if held.is_unspecified:
        return held.version == 6 or wanted.version == 4
    return held == wanted
