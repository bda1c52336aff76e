"""The Protocols of the resident daemon. Apart from the others, which would cost it 0.2 MB of memory;
agent.ports has these too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.node.facts_daemon import Listener
from agent.ports_fence import Fence
from agent.ports_processes import Processes


class Notify(Protocol):
    """The service manager that started the daemon (sd_notify(3))."""

    watchdog_s: float
    """How often it wants to hear of us; 0: it does not watch."""

    def send(self, *assignments: str) -> None:
        """Send "READY=1", "STATUS=…" and so on; nothing happens where nobody listens."""


class Watch(Protocol):
    """Changes in directories (inotify(7))."""

    def fileno(self) -> int:
        """Becomes readable when something changed."""

    def add(self, directory: str) -> bool:
        """Watch a directory (not what is below its directories);

        False where it is not there or not ours to see.
        """

    def changed(self) -> tuple[str, ...]:
        """Paths that were written, renamed or removed since the last call; does not wait."""


class Cgroups(Protocol):
    """The cgroup v2 tree."""

    def of_processes(self, *patterns: str) -> Mapping[str, tuple[str, ...]]:
        """For each pattern the cgroups of all processes with such a short name (proc_pid_comm(5)), as paths
        in the tree, sorted. A pattern is the name, or its beginning and a "*". Raises FenceError (NNA0802).
        """


class SocketTables(Protocol):
    """The kernel's tables of this network namespace's TCP sockets, and who owns what."""

    def find_listener(self, address: str, port: int) -> Listener | None:
        """The listening TCP socket that would get a connection from this node to `address:port`; None: there
        is none, as for an address that is not this node's. Quick, however many others listen on the port.
        Raises PortError.
        """

    def listening(self, port: int) -> tuple[tuple[str, int, int], ...]:
        """(address, uid, inode) of each TCP socket that listens on the port. Raises PortError."""

    def holder(self, uid: int, inode: int) -> str:
        """Who has the listening socket, in words: the process where we may see it, else the user."""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One line that a unit wrote."""

    text: str
    at: float
    """When the journal took it: CLOCK_MONOTONIC, seconds."""
    dropped: int = 0
    """Where it is no line of the unit: how many the journal dropped (its rate limit), or could not be
    read.
    """


class Journal(Protocol):
    """What one unit writes to the journal, from `start` on. Nothing here waits."""

    problem: str
    """Why nothing can be read; "" while it is followed."""

    def start(self) -> None:
        """Begin to follow, anew where it was followed before: what is written from now on."""

    def fileno(self) -> int:
        """Becomes readable when there are lines, or when following has ended; from `close` on -1."""

    def lines(self) -> tuple[JournalLine, ...]:
        """What there is now, oldest first (not all of it at once where it is much).

        Sets `problem` at the end.
        """

    def close(self) -> None:
        """Follow no longer. A problem that there is stays the problem."""


@dataclass(frozen=True, slots=True)
class Holders:
    """What has become of the processes around a listening socket."""

    ended: tuple[str, ...] = ()
    """Those that have ended since the last look, in words."""
    stopped: str = ""
    """Why none of them runs at the moment (a signal or the freezer has stopped them); "" = they may run."""


class ListenerProcesses(Protocol):
    """The processes of the service or container that holds a listening socket: those of the socket's
    cgroup.
    """

    def fileno(self) -> int:
        """Becomes readable when one of them has ended, or when the freezer has stopped or released them."""

    def follow(self, listener: Listener) -> str:
        """Follow those of this listening socket, instead of those before; "" or why they cannot be
        followed.
        """

    def holders(self) -> Holders:
        """How they are now. Cheap: for every tick."""


class Names(Protocol):
    """Host names to addresses."""

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The host's addresses, in the system's order. It may take as long as the system pleases: the caller
        holds the deadline. Raises PortError where there are none.
        """


@dataclass(frozen=True, slots=True)
class DaemonPorts:
    """Everything that the resident daemon may touch besides its own files, probes and listeners."""

    fence: Fence
    notify: Notify
    watch: Watch
    cgroups: Cgroups
    tables: SocketTables
    names: Names
    journal: Journal
    """Of the unit in whose cgroup nydusd runs."""
    mirror_processes: ListenerProcesses
    processes: Callable[[], Processes]
    """Made on demand: the daemon runs a child only when it is being stopped."""
