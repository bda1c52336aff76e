"""The ports of a look at the dfdaemon that runs on this node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.ports import Files, Http, SocketTables, Units


@dataclass(frozen=True, slots=True)
class SocketHolder:
    """The process behind a listening socket."""

    pid: int
    argv: tuple[str, ...]
    unit: str
    """The service of systemd whose cgroup it is in; "" where it is in none (a container's)."""
    environment: Mapping[str, str]
    """What dfdaemon reads of it, and nothing else."""


class SocketHolders(Protocol):
    """Who holds a socket of this network namespace."""

    def of(self, inode: int) -> SocketHolder | None:
        """The process with the socket's inode; None: there is none that we may see."""


@dataclass(frozen=True, slots=True)
class DragonflyPorts:
    """What `dragonfly audit --live` touches; all of it is only looked at."""

    tables: SocketTables
    holders: SocketHolders
    units: Units
    http: Http
    files_of: Callable[[int], Files]
    """The files that a process sees, by its id: it may be in a container."""
