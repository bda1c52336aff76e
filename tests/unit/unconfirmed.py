"""A node of fakes on which changes wait for their confirmation, and systemd's alarms really go off."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Self

from agent import paths
from agent.apply import change, recover, rollback
from agent.commands import confirm as confirm_verb
from agent.commands.apply import waiting
from agent.commands.context import Context
from agent.config.model import Config, LogLevel
from agent.console import Console
from agent.ports import Alarm
from agent.records.generations import Pending, TakenBack
from tests.fakes.faults import Crash
from tests.unit.proved_node import CONFIG, ProvedNode, quiet

SECONDS = 120
LOUD = replace(CONFIG, snapshotter=replace(CONFIG.snapshotter, log_level=LogLevel.DEBUG))
UNIT = paths.SNAPSHOTTER_UNIT


class Waiting:
    """`made` and what a person and systemd do to it."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.made = ProvedNode(config)
        self.node = self.made.node
        self.ports = self.node.ports
        self.node.containerd.mountpoints = ("/var/lib/containerd/overlayfs",)
        self.context = Context(Console(io.StringIO(), io.StringIO()), uid=0)

    @classmethod
    def with_generation(cls) -> Self:
        """On a node with an accepted generation."""
        waiting = cls()
        waiting.made.apply()
        return waiting

    def apply(self, config: Config | None = None, seconds: int = SECONDS) -> change.Outcome:
        """`apply --confirm`."""
        around = waiting(quiet(), self.ports, seconds, self.context)
        with self.ports.ledger.lock("apply"):
            return change.apply(config or self.made.config, self.ports, around)

    def killed(self) -> None:
        """`apply --confirm` that is killed in its middle."""
        self.node.faults.at(1, Crash(), method="job")
        with contextlib.suppress(Crash):
            self.apply()
        assert self.node.ledger.open

    def confirm(self) -> tuple[Pending, float] | None:
        return confirm_verb.keep(self.ports)

    def pass_time(self, seconds: float = SECONDS) -> list[TakenBack | None]:
        """Time passes; what the alarm starts runs at once."""
        self.node.clock.advance(seconds)
        return [self.goes_off(alarm) for alarm in self.node.alarms.due()]

    def goes_off(self, alarm: Alarm) -> TakenBack | None:
        program, verb, *_options, last = alarm.argv
        only = last.removeprefix("--unconfirmed=")
        assert (program, verb) == ("/usr/bin/nydus-agent", "rollback")
        with rollback.lock(self.ports, only):
            return rollback.take_back(self.made.config, self.ports, quiet(), only=only)

    def reboot(self) -> TakenBack | None:
        """Recovery before the runtimes start, then the boot goes on."""
        units = self.node.units.units
        for name in (paths.CONTAINERD_UNIT, UNIT):
            if name in units:
                units[name] = replace(units[name], active_state="inactive", sub_state="dead", main_pid=0)
        self.node.containerd.up = False
        self.node.snapshotter.answering = set()
        self.node.alarms.reboot()
        self.node.clock.reboot()
        before = len(self.node.faults.calls)
        with self.ports.ledger.lock("recover"):
            waits = rollback.of_an_earlier_boot(self.ports)
            recover.finish(self.ports, jobs=False, say=lambda _: None)
            taken = (
                rollback.take_back_files(self.made.config, self.ports, quiet(), waits)
                if waits is not None
                else None
            )
        assert [call for call in self.node.faults.calls[before:] if call[0] in ("job", "reload")] == []
        self.node.units.reload()
        for name in (UNIT, paths.CONTAINERD_UNIT):
            if name in units and (name != UNIT or paths.SNAPSHOTTER_CONFIG in self.node.files.files):
                self.node.units.job(name, "start", deadline_s=1)
        return taken

    def use_containers(self, count: int) -> None:
        """So many containers run on the snapshotter."""
        root = CONFIG.snapshotter.root
        line = f"overlay /run/containerd/c{{}}/rootfs overlay rw,lowerdir={root}/snapshots/3/fs 0 0\n"
        self.node.files.put("/proc/1/mounts", "".join(line.format(one) for one in range(count)).encode())

    def healthy(self) -> bool:
        """containerd answers, and names no snapshotter that does not."""
        named = b"proxy_plugins.nydus" in self.node.files.files[CONFIG.containerd.config].content
        return self.node.containerd.up and (not named or bool(self.node.snapshotter.answering))
