"""A node for killing programs on: its files, its journal and its generations are real, and its services
outlive them.

The program under test is the real one (look, plan, executor, journal, generations, the adapters for files and
for the journal), below a root directory. What stands behind it is played: systemd and containerd are the
fakes that the contract tests hold to the real ones, and they keep their state in a file beside the root,
because the real ones are processes that a kill of the agent does not touch. A job is done as a whole or was
never asked for, as with a message to systemd.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import paths
from agent.apply import change, recover, remove, rollback
from agent.config.model import Config, ContainerdConfig, ContainerdMode, Switch
from agent.containerd.view import KEYS, at, names_snapshotter
from agent.errors import SystemdError
from agent.facts.node import PluginFact, UnitFact
from agent.ports import Finished, Ports
from agent.system.files import RootFiles
from agent.system.ledger import DiskLedger
from tests.fakes.containerd import STOCK_PLUGINS, nydus_plugin
from tests.fakes.units import FakeUnits
from tests.unit import plan_node
from tests.unit.proved_node import ProvedNode, quiet

FIRST = plan_node.config(plan_node.PLAIN)
SECOND = replace(
    plan_node.config(plan_node.PLAIN, switch=Switch.NATIVE),
    containerd=ContainerdConfig(mode=ContainerdMode.RUNTIME_CLASS),
)
"""Another template, another containerd configuration: both services restart."""

CONTAINERD_CONFIG = FIRST.containerd.config
ENABLED_BY = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
_READ_BY = {
    paths.CONTAINERD_UNIT: (CONTAINERD_CONFIG,),
    paths.SNAPSHOTTER_UNIT: (paths.NYDUSD_TEMPLATE, paths.SNAPSHOTTER_CONFIG),
}
_OVERLAYFS = "/var/lib/containerd/overlayfs"


@dataclass
class Machine:
    """What systemd and containerd know: it outlives the agent, and a power cut ends it."""

    units: dict[str, UnitFact] = field(default_factory=dict)
    pid: int = 1000
    containerd_pid: int = 500
    plugins: tuple[PluginFact, ...] = STOCK_PLUGINS
    mountpoint: str = _OVERLAYFS
    answering: frozenset[str] = frozenset()
    read: dict[str, dict[str, str]] = field(default_factory=dict)
    """unit -> path -> digest of what its process found there when it started."""
    queued: frozenset[str] = frozenset()
    """Units that this boot starts: what was enabled when systemd came up, and what was queued since."""
    unsafe: tuple[str, ...] = ()
    """Moments at which containerd ran with the name of a snapshotter that did not answer."""


class SurvivingUnits(FakeUnits):
    """systemd: enables by a link below the root, and what it did is kept before the caller hears of it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(files=stage.files)
        self._stage = stage

    def get(self, name: str) -> UnitFact | None:
        found = super().get(name)
        if found is None or name != paths.SNAPSHOTTER_UNIT:
            return found
        return replace(
            found, unit_file_state="enabled" if self._stage.at(ENABLED_BY).is_symlink() else "disabled"
        )

    def job(self, name: str, verb: str, *, deadline_s: float) -> UnitFact:
        if name == paths.CONTAINERD_UNIT and verb != "stop":
            self._stage.need_readable_config()
        done = super().job(name, verb, deadline_s=deadline_s)
        self._stage.keep()
        return done

    def enable(self, name: str) -> None:
        super().enable(name)
        self.link()

    def has_file(self, path: str) -> bool:
        return self._stage.at(path).exists()

    def link(self) -> None:
        """What enables the snapshotter, as systemctl lays it."""
        link = self._stage.at(ENABLED_BY)
        link.unlink(missing_ok=True)
        link.symlink_to(paths.SNAPSHOTTER_UNIT_FILE)

    def disable(self, name: str) -> None:
        super().disable(name)
        self._stage.at(ENABLED_BY).unlink(missing_ok=True)

    def reload(self) -> None:
        super().reload()
        self._stage.keep()


class Stage:
    """One node below `root`; a program that runs on it makes its own, as each real one connects anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = RootFiles(str(root))
        self._proved = ProvedNode(FIRST)
        node = self._proved.node
        self.units = node.units = SurvivingUnits(self)
        node.units.on_job += [node._job_done, self._job_done]
        node.load_plugins = lambda: _plugins(self._config())
        node.processes.act("containerd", "--config", by=self._dump)
        for program in ("nsenter", "kill", "rm"):
            node.processes.on(program)
        node.processes.act("systemctl", by=self._systemctl)
        node.processes.on("du", stdout="119 /var/lib/containerd-nydus\n")
        self._wake(self._load())

    @property
    def ports(self) -> Ports:
        """The node as the program sees it."""
        return replace(
            self._proved.node.ports, files=self.files, ledger=DiskLedger(f"{self.root}{paths.STATE_DIR}")
        )

    def at(self, path: str) -> Path:
        """A path of the node as systemd and containerd open it: a warden can tell their calls from the
        agent's.
        """
        return Path(f"{self.root}.machine.view{path}")

    def lay(self) -> None:
        """A node with a running containerd and nothing of ours."""
        view(self.root)
        for path, file in self._proved.node.files.files.items():
            place = self.at(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
            place.chmod(file.mode)
        self.at("/etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
        self.at(paths.STATE_DIR).mkdir(parents=True)  # as dpkg makes it
        self.units.job(paths.CONTAINERD_UNIT, "restart", deadline_s=1)

    def apply(self, config: Config) -> None:
        """The verb."""
        ports = self.ports
        with ports.ledger.lock("apply"):
            change.apply(config, ports, quiet())

    def roll_back(self) -> None:
        """The verb."""
        ports = self.ports
        with ports.ledger.lock("rollback"):
            rollback.roll_back(SECOND, ports, quiet(), to=1)

    def remove(self) -> None:
        """The verb."""
        ports = self.ports
        with ports.ledger.lock("remove"):
            remove.remove_setup(FIRST, ports, quiet(), force=False)

    def recover(self, *, jobs: bool = True) -> None:
        """The verb; without jobs as at boot."""
        ports = self.ports
        with ports.ledger.lock("recover"):
            if recover.finish(ports, jobs=jobs, say=lambda _: None) is None:
                ports.ledger.close()

    def lose_power(self) -> None:
        """All processes end; systemd comes up and has not yet started anything."""
        stock = plan_node.node().units.units[paths.CONTAINERD_UNIT]
        off = replace(stock, active_state="inactive", sub_state="dead", main_pid=0)
        starts = self.at(ENABLED_BY).is_symlink() and self.at(paths.SNAPSHOTTER_UNIT_FILE).exists()
        kept = Machine(
            units={paths.CONTAINERD_UNIT: off}, pid=self.units._pid + 100, unsafe=self._machine.unsafe,
            queued=frozenset({paths.SNAPSHOTTER_UNIT} if starts else ()),
        )  # fmt: skip
        _store(self.root, kept)
        self._wake(kept)
        self.units.reload()

    def start_services(self) -> None:
        """What the boot does after recovery."""
        if paths.SNAPSHOTTER_UNIT in self._machine.queued:
            if not self.at(paths.SNAPSHOTTER_CONFIG).exists():
                self._machine.unsafe += (
                    "the snapshotter is started over and over without its configuration",
                )
            self.units.reload()  # systemd reads a unit's file when it is asked to start it
            self.units.job(paths.SNAPSHOTTER_UNIT, "start", deadline_s=1)
        self.units.job(paths.CONTAINERD_UNIT, "start", deadline_s=1)

    def read_by(self, unit: str) -> dict[str, str]:
        """path -> digest of what a service found there when it started."""
        return self._machine.read.get(unit, {})

    @property
    def unsafe(self) -> tuple[str, ...]:
        """Moments at which containerd ran with the name of a snapshotter that did not answer."""
        return self._machine.unsafe

    def need_readable_config(self) -> None:
        """containerd does not start on a file that is no TOML."""
        try:
            tomllib.loads(self._config().decode())
        except ValueError as error:
            raise SystemdError("NNA0503", "restart of containerd.service failed", cause=str(error)) from None

    def keep(self) -> None:
        """Put what systemd and containerd know where a kill does not reach it."""
        node = self._proved.node
        _store(
            self.root,
            Machine(
                self.units.units, self.units._pid, node.containerd.pid, node.containerd.plugin_facts,
                node.containerd.mountpoints[0], frozenset(node.snapshotter.answering), self._machine.read,
                self._machine.queued, self._machine.unsafe,
            ),
        )  # fmt: skip

    def _load(self) -> Machine:
        place = _beside(self.root)
        if place.exists():
            loaded = pickle.loads(place.read_bytes())
            assert isinstance(loaded, Machine)
            return loaded
        return Machine(units=dict(plan_node.node().units.units))

    def _wake(self, machine: Machine) -> None:
        node = self._proved.node
        self._machine = machine
        self.units.units, self.units._pid = machine.units, machine.pid
        node.containerd.pid, node.containerd.plugin_facts = machine.containerd_pid, machine.plugins
        node.containerd.mountpoints = (machine.mountpoint,)
        node.containerd.up = machine.units[paths.CONTAINERD_UNIT].active_state == "active"
        node.snapshotter.answering = set(machine.answering)

    def _job_done(self, name: str, verb: str) -> None:
        read = {} if verb == "stop" else {path: self._digest(path) for path in _READ_BY.get(name, ())}
        self._machine.read[name] = read
        if name == paths.CONTAINERD_UNIT and verb != "stop":
            config, node = self._config(), self._proved.node
            default = at(tomllib.loads(config.decode()), KEYS[2].snapshotter) == paths.PROXY_PLUGIN
            node.containerd.mountpoints = (FIRST.snapshotter.root if default else _OVERLAYFS,)
            if names_snapshotter(config) and not node.snapshotter.answering:
                self._machine.unsafe += (
                    f"{verb} {name} on a configuration whose snapshotter does not answer",
                )

    def _systemctl(self, argv: tuple[str, ...], _stdin: bytes) -> Finished:
        match argv[1:]:
            case ("--root=/", "--quiet", "enable", paths.SNAPSHOTTER_UNIT):
                self.units.link()
            case ("--no-block", "--quiet", "start", unit):
                self._machine.queued |= {unit}
                self.keep()
            case ("--no-block", "--quiet", "stop", unit):
                self._machine.queued -= {unit}
                self.keep()
            case _:
                raise AssertionError(f"nobody runs {argv}")
        return Finished(argv, 0, "", "")

    def _config(self) -> bytes:
        place = self.at(CONTAINERD_CONFIG)
        return place.read_bytes() if place.exists() else b""

    def _digest(self, path: str) -> str:
        place = self.at(path)
        return hashlib.sha256(place.read_bytes()).hexdigest() if place.exists() else ""

    def _dump(self, argv: tuple[str, ...], _stdin: bytes) -> Finished:
        return Finished(argv, 0, self.at(argv[2]).read_text(), "")


def _plugins(config: bytes) -> tuple[PluginFact, ...]:
    proxy = tomllib.loads(config.decode()).get("proxy_plugins", {}).get(paths.PROXY_PLUGIN)
    if proxy is None:
        return STOCK_PLUGINS
    return (*STOCK_PLUGINS, nydus_plugin(proxy["address"], proxy.get("exports", {}).get("root", "")))


def view(root: Path) -> None:
    """Lay the way on which systemd and containerd come to the node's files."""
    os.symlink(root, f"{root}.machine.view")


def _beside(root: Path) -> Path:
    return root.with_name(root.name + ".machine")


def _store(root: Path, machine: Machine) -> None:
    made = root.with_name(root.name + ".machine.new")
    made.write_bytes(pickle.dumps(machine))
    os.replace(made, _beside(root))
