"""The Protocols between the program and the outside. Adapters implement them, tests/fakes too, and one
contract test runs on both. Every call that can wait takes a deadline in seconds; every error is a subclass of
`errors.PortError`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

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
from agent.ports_daemon import Cgroups as Cgroups
from agent.ports_daemon import DaemonPorts as DaemonPorts
from agent.ports_daemon import Holders as Holders
from agent.ports_daemon import Journal as Journal
from agent.ports_daemon import JournalLine as JournalLine
from agent.ports_daemon import ListenerProcesses as ListenerProcesses
from agent.ports_daemon import Names as Names
from agent.ports_daemon import Notify as Notify
from agent.ports_daemon import SocketTables as SocketTables
from agent.ports_daemon import Watch as Watch
from agent.ports_fence import Fence as Fence
from agent.ports_fence import Released as Released
from agent.ports_files import Files as Files
from agent.ports_processes import Finished as Finished
from agent.ports_processes import Processes as Processes
from agent.ports_processes import RunningProgram as RunningProgram


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


class TlsSight(enum.StrEnum):
    """What a listener of ours saw first."""

    TLS = "tls"
    PLAIN = "plain"
    NOBODY = "nobody"


class Tls(Protocol):
    """TLS towards registries, and whether others speak it.

    Only root's oneshots have this port (ssl is heavy).
    """

    def verify(self, host: str, ca: str, *, deadline_s: float) -> str:
        """ "" where the certificate of HOST[:PORT] verifies against the CA file (empty: the system's store),
        else why not. Raises HttpError where nobody answers, FileError where the CA cannot be read.
        """

    def sight(self, fetch: Callable[[str], None], *, user: str, deadline_s: float) -> TlsSight:
        """Listen on a loopback port, call `fetch` with its "ADDRESS:PORT", say how the first client began to
        speak.

        Only clients of root and of `user` count, because every local user can connect. The client is cut off
        after its first byte. HttpErrors of `fetch` are expected and end it. Raises HttpError where no port
        can be opened.
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
    tables: SocketTables
    clock: Clock
    ledger: Ledger
    trials: Trials
    tls: Tls
    alarms: Alarms
    machine: str
    """The kernel's name of what this node is, such as "x86_64" (uname(2))."""
