"""The switch between mirror and origin: the fence, what the daemon follows, and a drill."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.facts.node import FenceAbility, Listener, Unknown
from agent.ports.node import Cgroups, Processes, SocketTables


@dataclass(frozen=True, slots=True)
class Released:
    """What became of connections to a fenced mirror."""

    at_once: int = 0
    """Destroyed, whatever they were doing."""
    waiting: int = 0
    """Destroyed: a request had been sent and no byte of its answer had come."""
    stalled: int = 0
    """Destroyed: nothing had come for the whole patience, within an answer (or since one: an idle
    connection).
    """
    spared: int = 0
    """Left: an answer is coming, or came a moment ago."""


class Fence(Protocol):
    """The nft fence and the destruction of sockets (DESIGN: "How a route is switched")."""

    def available(self) -> str:
        """ "" where nft can be used, else the reason."""

    def self_test(
        self, *, deadline_s: float, mirror: tuple[str, int] | None = None
    ) -> FenceAbility | Unknown:
        """Fence a port of our own for a moment, in a table of its own, and show that a connect is refused and
        that an open connection is destroyed; with `mirror`, also that a packet of ours to that address meets
        a rule (others' connections to it are not touched). Leaves nothing behind. Unknown: there is no port,
        descriptor or memory for it now.
        """

    def assert_table(self) -> None:
        """Make the table, set, chain and rule as they must be (idempotent), and have ready what raising the
        fence needs: it must need no descriptor then. Raises FenceError.
        """

    def renew(self, address: str, port: int, lease_ms: int) -> None:
        """Fence the address for `lease_ms` from now, whatever became of the table meanwhile.

        Raises FenceError.
        """

    def intact(self) -> bool:
        """Whether table, chain and rules are still those that this process made. Raises FenceError."""

    def stands(self, address: str, port: int) -> bool:
        """Whether the address is fenced, by a table that is intact. Raises FenceError."""

    def refused(self) -> int:
        """How many attempts to connect the fence has refused since its table was made."""

    def lift(self, address: str, port: int) -> None:
        """Remove the element (no error where it has lapsed)."""

    def fenced(self) -> tuple[tuple[str, int, int], ...]:
        """(address, port, milliseconds left) of each element."""

    def destroy(self, address: str, port: int, cgroups: Sequence[str]) -> int:
        """Destroy the sockets of these cgroups towards the address; how many. Raises FenceError."""

    def release(
        self,
        address: str,
        port: int,
        cgroups: Sequence[str],
        patience_s: float,
        *,
        at_once: Sequence[str] = (),
    ) -> Released:
        """Destroy all sockets of the cgroups `at_once` towards the address, and then of `cgroups` those that
        wait for an answer's first byte, and those that got nothing for `patience_s`: their owner gives a
        whole transfer up when its connection ends. A cgroup in both is treated as one of `at_once`. Raises
        FenceError.
        """

    def remove_table(self) -> None:
        """Delete our table (no error where there is none)."""


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
        """Watch a directory (not what is below its directories); False where it is not there or not ours
        to see.
        """

    def changed(self) -> tuple[str, ...]:
        """Paths that were written, renamed or removed since the last call; does not wait."""


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
    pid: int = 0
    """The process that wrote it, as the kernel told the journal."""


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

    def read(self) -> Holders:
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
    changer: Callable[[], int]
    """Which process holds the lock of changes; 0 = nobody."""
    processes: Callable[[], Processes]
    """Made on demand: the daemon runs a child only when it is being stopped."""


class DrillKind(enum.StrEnum):
    """What is rehearsed."""

    DOWN = "mirror-down"
    """Nobody listens any more: connections are refused, open ones end."""
    HANG = "mirror-hang"
    """The mirror is frozen: packets to it are lost without a word."""


@dataclass(frozen=True, slots=True)
class DrillScope:
    """Whose packets are meant."""

    proxy: tuple[str, int]
    """The mirror's address and port."""
    ping: tuple[str, int]
    """Where its health URL is; only the agent's own packets to it are meant (the kubelet asks it too)."""
    agent_uid: int
    nydusd: tuple[str, ...]
    """The cgroups of nydusd. Others' transfers that are under way, such as containerd's, are spared."""


@dataclass(frozen=True, slots=True)
class Struck:
    """How many open connections to the mirror were ended (DOWN) or silenced (HANG)."""

    nydusd: int
    agent: int


class Drill(Protocol):
    """Nothing of a drill outlives its time or the process that began it: the kernel sees to both."""

    def begin(self, kind: DrillKind, scope: DrillScope, seconds: float) -> Struck:
        """From now on, for at most `seconds`.

        Raises FenceError, then nothing is left; also where one is under way.
        """

    def end(self) -> None:
        """At once; no error where none is under way."""
