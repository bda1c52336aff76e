"""The node itself: its files, units, processes, clocks and sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the daemon has these ports too, and no use for what the plan is made of
    from agent.facts.node import FileFact, Listener, Moment, UnitFact


class Files(Protocol):
    """Files under a root directory (the node's "/", or a directory in tests)."""

    def read(self, path: str) -> FileFact | None:
        """The file, following symlinks only where every directory on the way belongs to root; None: not
        there.

        Raises FileError (too large, not a regular file, no permission).
        """

    def head(self, path: str, count: int) -> bytes | None:
        """The first `count` bytes of a file of any size, found as `read` does; None: not there.

        Raises FileError.
        """

    def stamp(self, path: str) -> str | None:
        """Inode, size and time of a file, found as `read` does: other after each replacement; None: not
        there.

        Raises FileError, so nobody takes a look that failed for a file that is gone.
        """

    def sha256(self, path: str) -> str | None:
        """The digest of a file as large as a program may be, found as `read` does; None: not there.

        Raises FileError.
        """

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted; empty where it is not there."""

    def replace(
        self, path: str, content: bytes, *, mode: int, uid: int, gid: int, expect_sha256: str
    ) -> tuple[str, ...]:
        """Write atomically: temp in the same directory, fsync, owner and mode, rename, fsync of the
        directory.

        A symlink at `path` stays one: its target is replaced. `expect_sha256` "" means must not exist.
        Returns the directories that had to be made, outermost first. Raises FileChangedError, FileError.
        """

    def remove(self, path: str, *, expect_sha256: str) -> None:
        """Remove a file that is still what was seen. Raises FileChangedError, FileError."""

    def sync(self, directory: str) -> None:
        """Wait until the names in a directory are on the disk, whoever made or removed them; it may be
        missing.

        Raises FileError.
        """

    def sweep(self, path: str) -> None:
        """Remove what a killed writer of this file left beside it; of a directory ("…/"), of any file in it.

        Raises FileError.
        """

    def remove_empty_directory(self, path: str) -> bool:
        """Remove a directory if it is empty; says whether it was removed."""

    def remove_link(self, path: str) -> bool:
        """Remove a symbolic link (never what it points to); says whether there was one. Raises FileError."""

    def empty(self, path: str) -> int:
        """Remove the entries of a directory that another user writes to, without following a link; how many.

        A directory inside is left alone. What lies in its place and is no directory is removed. Raises
        FileError.
        """


class Units(Protocol):
    """systemd's manager."""

    def running(self) -> bool:
        """Whether systemd is PID 1 here and its bus answers."""

    def get(self, name: str) -> UnitFact | None:
        """The unit as systemd sees it; None: no such unit. Raises SystemdError."""

    def job(self, name: str, verb: str, *, deadline_s: float) -> UnitFact:
        """Queue start, stop or restart (mode "replace"), wait for the job's own JobRemoved signal, return the
        unit.

        A failed state and the count of starts (StartLimitBurst) are reset before a start or restart. Raises
        SystemdError with the job's result, the unit's state and its last journal lines.
        """

    def enable(self, name: str) -> None:
        """Enable a unit file. Raises SystemdError."""

    def disable(self, name: str) -> None:
        """Disable a unit file. Raises SystemdError."""

    def reload(self) -> None:
        """daemon-reload. Raises SystemdError."""

    def journal_tail(self, name: str, lines: int) -> tuple[str, ...]:
        """The unit's last journal lines, for error messages; empty where there are none."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A child that ended by itself."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """What a process runs (proc_pid_exe(5))."""

    path: str
    """Where it was when it was started."""
    replaced: bool
    """Another file, or none, lies there now."""


class Processes(Protocol):
    """The only spawn point. argv only, minimal environment, an empty stdin."""

    def run(
        self, argv: Sequence[str], *, deadline_s: float, ok: Sequence[int] = (0,), stdin: bytes = b""
    ) -> Finished:
        """Raises ProcessError (not found, no end in time, another exit code than `ok`)."""

    def program(self, pid: int) -> RunningProgram | None:
        """What a process runs; None: there is no such process.

        Raises ProcessError where that cannot be seen.
        """

    def program_sha256(self, pid: int) -> str | None:
        """The digest of the file that a process runs, also of one that lies nowhere any more; None: there is
        no such process. Raises ProcessError.
        """

    def which(self, name: str) -> str | None:
        """Absolute path of a program in PATH."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""

    def sleep(self, seconds: float) -> None:
        """Sleep."""

    def moment(self) -> Moment:
        """Now on every clock by which a length of time is measured that must outlive this process."""


class PackageManager(Protocol):
    """dpkg and what drives it."""

    def holder(self) -> int | None:
        """The process that holds dpkg's frontend lock (0: one of another pid namespace); None: nobody."""


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


class Cgroups(Protocol):
    """The cgroup v2 tree."""

    def of_processes(self, *patterns: str) -> Mapping[str, Mapping[str, int]]:
        """For each pattern the cgroups of all processes with such a short name (proc_pid_comm(5)), as paths
        in the tree, with how many there are in each. A pattern is the name, or its beginning and a "*".
        Raises FenceError (NNA0801).
        """


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
