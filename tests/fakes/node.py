"""A whole node of fakes, wired so that a job of systemd has its consequences."""

from __future__ import annotations

from collections.abc import Callable

from agent import paths
from agent.facts.node import PluginFact
from agent.ports import Ports
from tests.fakes.alarms import FakeAlarms
from tests.fakes.clock import FakeClock
from tests.fakes.containerd import FakeContainerd, FakeSnapshotterSocket
from tests.fakes.daemon import FakeTables
from tests.fakes.faults import Faults
from tests.fakes.fence import FakeFence
from tests.fakes.files import FakeFiles
from tests.fakes.http import FakeHttp
from tests.fakes.ledger import FakeLedger
from tests.fakes.nydusd import FakeNydusd
from tests.fakes.processes import FakeProcesses
from tests.fakes.tls import FakeTls
from tests.fakes.trials import FakeTrials
from tests.fakes.units import FakeUnits, unit


class FakeNode:
    """A node with a running containerd and nothing of ours; one `faults` counts all effects in order.

    Starting or stopping the containerd and snapshotter units moves `containerd` and `snapshotter`.
    `load_plugins` says which plugins a new containerd finds in its configuration (a test that writes real
    configuration reads `files` there).
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.clock = FakeClock()
        self.files = FakeFiles(faults=self.faults)
        self.files.make_directory(paths.STATE_DIR)  # the package makes it (tmpfiles.d)
        self.units = FakeUnits(
            [unit(paths.CONTAINERD_UNIT, active=True, pid=500)],
            files=self.files,
            faults=self.faults,
            clock=self.clock,
        )
        self.containerd = FakeContainerd(faults=self.faults)
        self.snapshotter = FakeSnapshotterSocket()
        self.nydusd = FakeNydusd()
        self.processes = FakeProcesses(faults=self.faults)
        self.machine = "x86_64"
        self.http = FakeHttp()
        self.fence = FakeFence(self.clock, faults=self.faults)
        self.tables = FakeTables()
        self.ledger = FakeLedger(faults=self.faults)
        self.trials = FakeTrials()
        self.tls = FakeTls()
        self.alarms = FakeAlarms(self.clock, faults=self.faults)
        self.load_plugins: Callable[[], tuple[PluginFact, ...]] = lambda: self.containerd.plugin_facts
        self.containerd.backend_alive = lambda name: name != paths.PROXY_PLUGIN or bool(
            self.snapshotter.answering
        )
        self.units.on_job.append(self._job_done)

    @property
    def ports(self) -> Ports:
        """The node as the program sees it."""
        return Ports(
            files=self.files, units=self.units, containerd=self.containerd, snapshotter=self.snapshotter,
            nydusd=self.nydusd, processes=self.processes, http=self.http, fence=self.fence,
            tables=self.tables,
            clock=self.clock, ledger=self.ledger, trials=self.trials, tls=self.tls, alarms=self.alarms,
            machine=self.machine,
        )  # fmt: skip

    def _job_done(self, name: str, verb: str) -> None:
        if name == paths.SNAPSHOTTER_UNIT:
            answering = {paths.SNAPSHOTTER_SOCKET} if verb != "stop" else set()
            self.snapshotter.answering = answering
        elif name in paths.RUNTIME_UNITS:
            if verb == "stop":
                self.containerd.up = False
            elif verb == "restart" or not self.containerd.up:
                self.containerd.restart(self.load_plugins())
