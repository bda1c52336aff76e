"""Carry out the steps of a plan, each after its undo is in the journal."""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from agent import paths
from agent.apply import gate, services
from agent.containerd.dropin import candidate_path
from agent.errors import ApplyError, ContainerdError, ProcessError
from agent.node import waits
from agent.node.images import NAMESPACE
from agent.ports import Ports
from agent.records import journal
from agent.records.journal import ChangeJournal
from agent.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    CheckContainerdConfig,
    ReloadUnits,
    RemoveFile,
    Step,
    UnitStep,
    UnitVerb,
    UnpackImage,
    WriteFile,
    describe,
)

_UNPACK_S = 60.0
_PULL_S = 120.0

_CHECK_S = 20.0


@dataclass
class Stop:
    """Set by a signal; looked at between two steps, so that no step is cut in half."""

    signal: str = ""

    def check(self) -> None:
        """Raises ApplyError NNA0404 once a signal has come."""
        if self.signal:
            raise ApplyError("NNA0404", "interrupted", cause=f"{self.signal} was received")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step that was carried out."""

    number: int
    total: int
    what: str
    took_s: float


@dataclass
class Executor:
    """Runs steps in order and stops at the first that fails (AgentError); nothing is undone here."""

    ports: Ports
    log: ChangeJournal
    stop: Stop
    report: Callable[[Progress], None]
    _containerd_pid: int = field(default=0, init=False)
    _containerd_unit: str = field(default=paths.CONTAINERD_UNIT, init=False)
    _checked: CheckContainerdConfig | None = field(default=None, init=False)

    def run(self, steps: Sequence[Step]) -> None:
        """All steps. Raises the first step's error, and ApplyError NNA0404 after a signal."""
        for number, step in enumerate(steps, 1):
            self.stop.check()
            # Before the step's undo is recorded: that would restart containerd again.
            if self._checked and isinstance(step, UnitStep) and step.unit != paths.SNAPSHOTTER_UNIT:
                check_dump(self.ports, self._checked, self._checked.path)
            began = self.ports.clock.monotonic()
            what = describe(step)
            intent = self.log.intend(what, self._undo(step))
            self._act(step)
            self.log.done(intent)
            took = self.ports.clock.monotonic() - began
            self.report(Progress(number, len(steps), what, took))
        self.stop.check()

    def _undo(self, step: Step) -> journal.Undo:
        match step:
            case WriteFile():
                return journal.PutBack(
                    step.path, step.content_before, step.content, step.mode_before, step.uid, step.gid,
                    missing_directories(self.ports, step.path), step.owned, step.mode,
                )  # fmt: skip
            case RemoveFile():
                return journal.PutBack(
                    step.path, step.content_before, None, step.mode_before, step.uid, step.gid
                )
            case CheckContainerdConfig():
                (path, content), *others = trial_files(step)
                also = tuple((one, journal.digest(what)) for one, what in others)
                return journal.Scratch(
                    path, journal.digest(content), also, missing_directories(self.ports, path)
                )
            case UnitStep():
                return journal.unit_back(self.ports.units.get(step.unit), step.unit, step.verb)
            case ReloadUnits():
                return journal.ReloadBack()
            case AwaitSnapshotter() | AwaitContainerd() | UnpackImage():
                return journal.Nothing()
            case _ as unreachable:
                assert_never(unreachable)

    def _act(self, step: Step) -> None:
        match step:
            case WriteFile():
                self.ports.files.replace(
                    step.path, step.content, mode=step.mode, uid=step.uid, gid=step.gid,
                    expect_sha256=step.expect_sha256,
                )  # fmt: skip
            case RemoveFile():
                self.ports.files.remove(step.path, expect_sha256=step.expect_sha256)
            case CheckContainerdConfig():
                check_containerd_config(self.ports, step)
                self._checked = step
            case UnitStep():
                self._unit(step)
            case ReloadUnits():
                self.ports.units.reload()
            case AwaitSnapshotter():
                waits.snapshotter(self.ports, step.address, step.deadline_s)
            case AwaitContainerd():
                waits.containerd(self.ports, self._containerd_pid, step.deadline_s, self._containerd_unit)
            case UnpackImage():
                unpack_image(self.ports, step)
            case _ as unreachable:
                assert_never(unreachable)

    def _unit(self, step: UnitStep) -> None:
        match step.verb:
            case UnitVerb.ENABLE:
                services.enable(self.ports, step.unit)
            case UnitVerb.DISABLE:
                services.disable(self.ports, step.unit)
            case UnitVerb.START | UnitVerb.STOP | UnitVerb.RESTART:
                if step.unit != paths.SNAPSHOTTER_UNIT:
                    self._containerd_pid, self._containerd_unit = waits.containerd_pid(self.ports), step.unit
                if step.verb is UnitVerb.RESTART:
                    gate.note_restart(self.ports, step.unit)
                self.ports.units.job(step.unit, step.verb.value, deadline_s=waits.job_s(step.unit))
            case _ as unreachable:
                assert_never(unreachable)


def missing_directories(ports: Ports, path: str) -> tuple[str, ...]:
    """Directories above `path` that are not there, outermost first."""
    missing: list[str] = []
    directory = posixpath.dirname(path)
    while directory != "/" and posixpath.basename(directory) not in ports.files.listdir(
        posixpath.dirname(directory)
    ):
        missing.insert(0, directory)
        directory = posixpath.dirname(directory)
    return tuple(missing)


def trial_files(step: CheckContainerdConfig) -> tuple[tuple[str, bytes], ...]:
    """(path, content) of what lies on the disk while containerd looks: drop-ins, then the root file that
    loads them.
    """
    root = step.candidate if step.trial is None else step.trial
    beside = ((candidate_path(path, step.path), content) for path, content in step.beside)
    return (*beside, (candidate_path(step.path, step.path), root))


def check_containerd_config(ports: Ports, step: CheckContainerdConfig) -> None:
    """`containerd config dump` on the candidates.

    Raises ApplyError NNA0407: refused, or not read as meant.
    """
    files = trial_files(step)
    made: list[str] = []
    for path, content in files:
        left = ports.files.read(path)
        seen = left.sha256 if left is not None else ""
        made += ports.files.replace(path, content, mode=0o600, uid=0, gid=0, expect_sha256=seen)
    try:
        check_dump(ports, step, files[-1][0])
    finally:
        for path, content in files:
            ports.files.remove(path, expect_sha256=journal.digest(content))
        for directory in reversed(made):  # the step that goes live makes and records them
            ports.files.remove_empty_directory(directory)


def check_dump(ports: Ports, step: CheckContainerdConfig, root: str) -> None:
    """Also by the root file's own name: only then it shows which files an import finds.

    Raises ApplyError NNA0407.
    """
    try:
        dump = ports.processes.run([step.program, "--config", root, "config", "dump"], deadline_s=_CHECK_S)
    except ProcessError as error:
        raise ApplyError(
            "NNA0407", "containerd refuses the new configuration", cause=error.cause or error.what,
            seen=error.seen,
            try_="nydus-agent plan",
        ) from None  # fmt: skip
    wrong = unexpected(dump.stdout, step.expect)
    if wrong:
        raise ApplyError(
            "NNA0407", "containerd would not read the new configuration as meant", cause="; ".join(wrong),
            try_="containerd config dump",
        )  # fmt: skip


def unexpected(dump: str, expect: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Expectations that do not hold in a TOML text, in words."""
    try:
        parsed = tomllib.loads(dump)
    except tomllib.TOMLDecodeError as error:
        return (f"its dump is not TOML: {error}",)
    wrong = []
    for dotted, value in expect:
        found = _at(parsed, dotted)
        if found != value:
            wrong.append(f"{dotted} is {found or 'not set'}, wanted {value}")
    return tuple(wrong)


def _at(parsed: object, dotted: str) -> str:
    """The value under a dotted TOML key, as text; "" where it is not there."""
    path: object = tomllib.loads(f"{dotted} = 0")
    while isinstance(path, dict):
        ((key, path),) = path.items()
        if not isinstance(parsed, dict) or key not in parsed:
            return ""
        parsed = parsed[key]
    return str(parsed).lower() if isinstance(parsed, bool) else str(parsed)


def unpack_image(ports: Ports, step: UnpackImage) -> None:
    """Have an image unpacked by our snapshotter before the kubelet needs it: from the layers that are here,
    without a network; else by a pull.

    Raises ApplyError NNA0419 with both causes: no pod would start any more.
    """
    why = (
        "its layers were discarded after they had been unpacked"
        if not step.complete
        else _unpack_from_here(ports, step)
    )
    if not why:
        return
    try:
        ports.containerd.pull(step.name, step.runtime, deadline_s=_PULL_S)
    except ContainerdError as error:
        raise ApplyError(
            "NNA0419", f"{step.name} cannot be unpacked by the nydus snapshotter",
            cause=f"{why}; and it could not be pulled again: {error.cause or error.what}", seen=error.seen,
            try_=f"crictl pull {step.name}",
        ) from None  # fmt: skip


def _unpack_from_here(ports: Ports, step: UnpackImage) -> str:
    """ "" or why not. containerd's own client does it, so that its garbage collection knows of the
    snapshots.
    """
    argv = ["ctr", "--address", step.address, "--namespace", NAMESPACE, "snapshots", "unpack"]
    try:
        ports.processes.run([*argv, "--snapshotter", paths.PROXY_PLUGIN, step.digest], deadline_s=_UNPACK_S)
    except ProcessError as error:
        return "; ".join([error.cause or error.what, *error.seen[-1:]])
    return ""
