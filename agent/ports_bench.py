"""The ports of the bench: programs whose output is timed, the node's caches, dfdaemon's tasks, a drawing."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from agent.bench.picture import Chart
from agent.ports import Clock, Containerd, Files, Http, Ledger, Nydusd, Processes


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


@dataclass(frozen=True, slots=True)
class PeerTask:
    """Something that dfdaemon keeps."""

    id: str
    size: int
    """0: not known."""
    finished: bool
    """All of it is there."""
    headers: tuple[str, ...]
    """Values of the headers that the origin answered with; a registry names the blob's digest there."""


class PeerStore(Protocol):
    """What the dfdaemon of this node keeps, asked on its unix socket. Raises HttpError."""

    def tasks(self, socket: str, *, deadline_s: float) -> tuple[PeerTask, ...]:
        """Its tasks."""

    def remove(self, socket: str, task: str, *, deadline_s: float) -> None:
        """Remove one from this node (not from others); no error where it is not there."""


class Drawing(Protocol):
    """Charts as files."""

    def missing(self) -> str:
        """What is not installed; "" = charts can be drawn."""

    def refused(self, path: str) -> str:
        """Why no file can be written there; "" = as far as can be told it can."""

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
