"""What root's verbs alone touch, and everything that one of them may touch."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.ports.node import Cgroups, Clock, Files, Processes, SocketHolders, SocketTables, Units
from agent.ports.services import Containerd, Http, Nydusd, PeerStore, SnapshotterSocket, Tls
from agent.ports.switch import Drill, Fence

if TYPE_CHECKING:
    from agent.bench.figures import Chart


class Ledger(Protocol):
    """The lock, and the journal of the open transaction: a line is on the disk before the act that it
    undoes.
    """

    def lock(self, who: str) -> AbstractContextManager[None]:
        """Hold the one lock of apply, remove and recover.

        Raises LockedError (says who holds it), FileError.
        """

    def holder(self) -> int:
        """The process that holds the lock, 0 where nobody does."""

    def end_holder(self, pid: int, *, kill: bool) -> bool:
        """End the process, if it holds the lock: let it undo what it began (a stopped one too), or `kill` it.

        False: it does not hold the lock.
        """

    def begin(self, first: bytes, reserve: int) -> None:
        """Open a journal that holds one line, with `reserve` bytes set aside so that the undo has room.

        Raises FileError; no journal is open then.
        """

    def append(self, line: bytes) -> None:
        """Add a line and wait until it is on the disk. Raises FileError."""

    def lines(self) -> tuple[bytes, ...]:
        """The lines of the open journal, without a torn last one; empty where none is open.

        Raises FileError.
        """

    def spend(self) -> None:
        """Give the reserve back to the file system: the undo begins."""

    def close(self) -> None:
        """Remove the journal: the transaction is over. Raises FileError."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a real read by a private nydusd showed."""

    version: str
    read: int
    """Bytes that were read from files of the image."""
    fetched: int
    """Bytes that nydusd asked its backend for (its metric read_amount_total)."""
    relayed: int
    """Bytes of answers that the mirror gave to this nydusd."""
    tasks: int
    """... of which in answers that named a Dragonfly task (X-Dragonfly-Task-Id)."""
    answers: tuple[tuple[str, int], ...]
    """(status, how often) of the mirror's answers; "tunnel" for CONNECT, "refused" where nobody answered."""
    error: str = ""
    """Why the read ended early, where it did; without credentials."""


class Trials(Protocol):
    """Short-lived private nydusd processes: own mount namespace, empty cache, limits, a deadline."""

    def start(self, nydusd: str, *, deadline_s: float) -> str:
        """Start it without an image until it answers and serves a mount of its own, and end it without a
        trace; the version that it tells. Raises NydusdError NNA0731.
        """

    def read(
        self,
        nydusd: str,
        bootstrap: str,
        configure: Callable[[str, str], bytes],
        *,
        mirror: tuple[str, int],
        limit: int,
        deadline_s: float,
    ) -> Trial:
        """Mount an image, read about `limit` bytes of its files, and end without a trace.

        `configure(relay, work_dir)` gives nydusd's configuration: `relay` is the URL of a relay of ours to
        `mirror` that lives as long as the read and counts its bytes, `work_dir` the empty cache. The
        configuration may hold credentials: it is written 0600 in a directory of root and never logged. Raises
        NydusdError.
        """


@dataclass(frozen=True, slots=True)
class Alarm:
    """A program that systemd starts by itself after a while, whatever becomes of who asked for it."""

    name: str
    """Of its units, without a suffix."""
    about: str
    """What it is for, in one line; `systemctl status` shows it."""
    argv: tuple[str, ...]
    """The program with its absolute path, and its arguments."""
    after_s: float
    runs_s: float
    """It is ended where it runs longer."""
    tries: int = 1
    """How often it is started until it ends well, `retry_s` apart."""
    retry_s: float = 30.0


class Alarms(Protocol):
    """Alarms of this boot: they do not survive a reboot, but the death of whoever set them."""

    def set(self, alarm: Alarm) -> None:
        """Set it, instead of one of the same name. When this returns, the time runs. Raises SystemdError."""

    def cancel(self, name: str) -> None:
        """It will not go off; one that has gone off is let run. Nothing happens where none is set.

        Raises SystemdError.
        """

    def waits(self, name: str) -> bool:
        """Whether it is set and has not gone off yet. Raises SystemdError."""


class ProgramEnd(enum.StrEnum):
    """How a timed program ended."""

    ITSELF = "itself"
    READY = "ready"
    """It was ended, because it had said what was waited for."""
    DEADLINE = "deadline"
    STOPPED = "stopped"
    """It was ended, because somebody stopped us."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What a program did; times in seconds from its start."""

    end: ProgramEnd
    code: int | None
    """Its exit code, where it ended by itself."""
    output_s: float | None
    """When it wrote first; None: never."""
    ready_s: float
    """When it wrote the line that was waited for; without such a line, when it ended."""
    tail: tuple[str, ...]
    """Its last lines."""


class TimedPrograms(Protocol):
    """Programs whose output is followed as it comes."""

    def run(
        self,
        argv: Sequence[str],
        *,
        ready: str = "",
        end: Sequence[str] = (),
        deadline_s: float,
        stopped: Callable[[], bool],
    ) -> Timed:
        """Run it until it ends, has written a line in which the regular expression `ready` is found, the
        deadline has passed, or `stopped` says so. In the latter three `end` is run, which should make it end;
        it is killed where it does not within seconds. Raises ProcessError where it cannot be started.
        """


class Caches(Protocol):
    """What makes a start warm."""

    def drop_pages(self) -> None:
        """Forget the kernel's page cache, in bounded time.

        Raises FileError where not all of it could be dropped.
        """

    def cached(self, directory: str) -> frozenset[str]:
        """Names in nydusd's cache directory; none where it is not there. Raises FileError."""

    def remove_blob(self, directory: str, blob: str) -> None:
        """Remove the files of a blob (hex digits of its digest) from that directory. Raises FileError."""

    def room(self, directory: str) -> tuple[int, int]:
        """Bytes that are free for everybody on the disk of a directory (which need not be there yet), and the
        disk's size. Raises FileError.
        """

    def received(self) -> Mapping[str, int]:
        """Bytes that each interface of this network namespace has received so far, loopback left out."""


class Drawing(Protocol):
    """Charts as files."""

    def missing(self) -> str:
        """What is not installed; "" = charts can be drawn."""

    def draw(self, chart: Chart, path: str) -> None:
        """Write the chart to a file whose suffix, .svg or .png, says how. Raises FileError."""


class HostsRoom(Protocol):
    """A place for the one hosts.toml of containerd that a pull goes by (`ctr --hosts-dir`)."""

    def holding(self, content: bytes) -> AbstractContextManager[str]:
        """The directory, which only root can look into: the file may hold a secret. Afterwards it is gone, as
        is one that a killed run has left. Raises FileError.
        """

    def clear(self) -> None:
        """Remove what a killed run has left. Raises FileError."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that root's verbs (plan, apply, doctor, inspect, remove) may touch."""

    files: Files
    units: Units
    containerd: Containerd
    snapshotter: SnapshotterSocket
    nydusd: Nydusd
    processes: Processes
    http: Http
    fence: Fence
    tables: SocketTables
    clock: Clock
    ledger: Ledger
    trials: Trials
    tls: Tls
    alarms: Alarms
    machine: str
    """The kernel's name of what this node is, such as "x86_64" (uname(2))."""


@dataclass(frozen=True, slots=True)
class BenchPorts:
    """What the verb touches."""

    files: Files
    containerd: Containerd
    nydusd: Nydusd
    processes: Processes
    http: Http
    programs: TimedPrograms
    caches: Caches
    peer: PeerStore
    drawing: Drawing
    hosts: HostsRoom
    ledger: Ledger
    clock: Clock


@dataclass(frozen=True, slots=True)
class DrillPorts:
    """What the verb touches."""

    drill: Drill
    cgroups: Cgroups
    ledger: Ledger
    clock: Clock


@dataclass(frozen=True, slots=True)
class DragonflyPorts:
    """What `dragonfly audit --live` touches; all of it is only looked at."""

    tables: SocketTables
    holders: SocketHolders
    units: Units
    http: Http
    files_of: Callable[[int], Files]
    """The files that a process sees, by its id: it may be in a container."""
