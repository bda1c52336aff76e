"""The Protocols between the program and the outside. Adapters implement them, tests/fakes too, and one contract test
runs on both. Every call that can wait takes a deadline in seconds; every error is a subclass of `errors.PortError`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from agent.dataclass import dataclass
from agent.errors import PortError
from agent.node.facts import UnitFact
from agent.ports_change import Alarm as Alarm
from agent.ports_change import Alarms as Alarms
from agent.ports_change import Ledger as Ledger
from agent.ports_change import Trial as Trial
from agent.ports_change import Trials as Trials
from agent.ports_clock import Clock as Clock
from agent.ports_containerd import Containerd as Containerd
from agent.ports_containerd import ImageFsInfo as ImageFsInfo
from agent.ports_containerd import ImageRecord as ImageRecord
from agent.ports_containerd import SnapshotterSocket as SnapshotterSocket
from agent.ports_fence import Fence as Fence
from agent.ports_fence import Released as Released
from agent.ports_files import Files as Files
from agent.ports_processes import Finished as Finished
from agent.ports_processes import Processes as Processes

if TYPE_CHECKING:  # the daemon has ports too, and no store
    from agent.ports_artifacts import ArtifactStore


class Units(Protocol):
    """systemd's manager."""

    def running(self) -> bool:
        """Whether systemd is PID 1 here and its bus answers."""

    def get(self, name: str) -> UnitFact | None:
        """The unit as systemd sees it; None: no such unit. Raises SystemdError."""

    def job(self, name: str, verb: str, *, deadline_s: float) -> UnitFact:
        """Queue start, stop or restart (mode "replace"), wait for the job's own JobRemoved signal, return the unit.

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
class NydusdInfo:
    """One running nydusd as its API socket tells it."""

    socket: str
    id: str
    version: str
    state: str
    pid: int | None
    backends: tuple[tuple[str, Mapping[str, object]], ...]
    """(mount point, effective backend configuration)."""


class Nydusd(Protocol):
    """Running nydusd processes of a snapshotter root, and short-lived private ones."""

    def sockets(self, snapshotter_root: str) -> tuple[str, ...]:
        """API sockets under the snapshotter's root."""

    def info(self, socket: str, *, deadline_s: float) -> NydusdInfo:
        """GET /api/v1/daemon. Raises NydusdError."""

    def backend_metrics(self, socket: str, *, deadline_s: float) -> Mapping[str, object]:
        """GET /api/v1/metrics/backend. Raises NydusdError."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


class Http(Protocol):
    """One bounded request: no redirects, no proxy environment, body cap, deadline for the whole exchange."""

    def get(
        self,
        url: str,
        *,
        deadline_s: float,
        proxy: str = "",
        headers: Mapping[str, str] | None = None,
        body_cap: int = 65536,
        unix_socket: str = "",
    ) -> HttpAnswer:
        """GET; with `proxy` in absolute form through it. Raises HttpError."""


class Sight(enum.StrEnum):
    """What a listener of ours saw first."""

    TLS = "tls"
    PLAIN = "plain"
    NOBODY = "nobody"


class Tls(Protocol):
    """TLS towards registries, and whether others speak it. Only root's oneshots have this port (ssl is heavy)."""

    def verify(self, host: str, ca: str, *, deadline_s: float) -> str:
        """ "" where the certificate of HOST[:PORT] verifies against the CA file (empty: the system's store), else why
        not. Raises HttpError where nobody answers, FileError where the CA cannot be read.
        """

    def sight(self, fetch: Callable[[str], None], *, user: str, deadline_s: float) -> Sight:
        """Listen on a loopback port, call `fetch` with its "ADDRESS:PORT", say how the first client began to speak.

        Only clients of root and of `user` count, because every local user can connect. The client is cut off after
        its first byte. HttpErrors of `fetch` are expected and end it. Raises HttpError where no port can be opened.
        """


class PackageManager(Protocol):
    """dpkg and what drives it."""

    def holder(self) -> int | None:
        """The process that holds dpkg's frontend lock (0: one of another pid namespace); None: nobody."""


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
    clock: Clock
    ledger: Ledger
    trials: Trials
    tls: Tls
    alarms: Alarms
    stores: Callable[[str], ArtifactStore]
    """The store in a directory: where it lies is a setting, and a record may tell of the one that was set then."""


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
        """Watch a directory (not what is below its directories); False where it is not there or not ours to see."""

    def changed(self) -> tuple[str, ...]:
        """Paths that were written, renamed or removed since the last call; does not wait."""


class Cgroups(Protocol):
    """The cgroup v2 tree."""

    def of_processes(self, *patterns: str) -> Mapping[str, tuple[str, ...]]:
        """For each pattern the cgroups of all processes with such a short name (proc_pid_comm(5)), as paths in the
        tree, sorted. A pattern is the name, or its beginning and a "*". Raises FenceError (NNA0802).
        """


class SocketTables(Protocol):
    """The kernel's tables of this network namespace's TCP sockets, and who owns what."""

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
    """Where it is no line of the unit: how many the journal dropped (its rate limit), or could not be read."""


class Journal(Protocol):
    """What one unit writes to the journal, from `start` on. Nothing here waits."""

    problem: str
    """Why nothing can be read; "" while it is followed."""

    def start(self) -> None:
        """Begin to follow, anew where it was followed before: what is written from now on."""

    def fileno(self) -> int:
        """Becomes readable when there are lines, or when following has ended; from `close` on -1."""

    def lines(self) -> tuple[JournalLine, ...]:
        """What there is now, oldest first (not all of it at once where it is much). Sets `problem` at the end."""

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
    """The processes of the service or container that holds a listening socket: those of the socket's cgroup."""

    def fileno(self) -> int:
        """Becomes readable when one of them has ended, or when the freezer has stopped or released them."""

    def follow(self, port: int, inode: int) -> str:
        """Follow those of this listening socket, instead of those before; "" or why they cannot be followed."""

    def look(self) -> Holders:
        """How they are now. Cheap: for every tick."""


class Names(Protocol):
    """Host names to addresses."""

    def addresses(self, host: str, told: Callable[[tuple[str, ...] | PortError], None]) -> None:
        """`told` hears once of the host's addresses, in the system's order, or why there are none: perhaps before this
        returns, perhaps from another thread, and as late as the system pleases; the caller holds the deadline.
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
