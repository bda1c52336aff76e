"""Put a node back: run the undo records of a transaction, newest stage first, and say exactly what came of
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from agent import paths
from agent.apply import confirm, daemons, gate, links
from agent.containerd.view import names_snapshotter
from agent.errors import AgentError, ApplyError, FileError, SystemdError, of_a_bug
from agent.node import waits
from agent.ports import Ports
from agent.records import generations, journal, undo
from agent.steps import UnitVerb

Say = Callable[[str], None]
_STARTED = (UnitVerb.START, UnitVerb.RESTART)


@dataclass
class UnwindReport:
    """What was put back, and what was not (each with the reason)."""

    restored: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Everything is as it was."""
        return not self.left


def unwind(ports: Ports, undos: Sequence[undo.Undo], root: str, *, jobs: bool, say: Say) -> UnwindReport:
    """Undo, newest stage first. Never raises for what one undo cannot do: that goes into the report.

    It stops where to go on would leave containerd with the name of a snapshotter that does not run: the node
    then is what it was in the middle of the change, and each such state is safe (`plan.invariants`).

    `root` is the snapshotter's. `jobs` False is for the boot: files only, because a queued job would wait for
    the unit that waits for us.
    """
    report = UnwindReport()
    say = unfailing(say)
    ports.ledger.spend()
    stages = undo.stages(undos)
    for number, stage in enumerate(stages, 1):
        _stage(ports, stage, root, report, say, jobs=jobs)
        if not report.complete and (_still_named(ports, stage) or _named_again(stages[number:])):
            waiting = [what for later in stages[number:] for what in _names(later)]
            report.left += [f"{what}: not before what came after it is put back" for what in waiting]
            break
    return report


def unfailing(say: Say) -> Say:
    """The same words to a reader who may be gone: a closed terminal must not end an undo."""

    def told(words: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            say(words)

    return told


def _still_named(ports: Ports, stage: undo.Stage) -> bool:
    """Whether a file in which our change named the snapshotter could not be put back and still does."""
    for file in stage.files:
        if not names_snapshotter(file.after):
            continue
        try:
            fact = ports.files.read(file.path)
        except FileError:
            return True
        if fact is not None and fact.sha256 != file.before_sha256 and names_snapshotter(fact.content):
            return True
    return False


def _named_again(stages: Sequence[undo.Stage]) -> bool:
    """Whether what is left to be undone took the snapshotter's name out of a file."""
    files = [file for stage in stages for file in stage.files]
    return any(names_snapshotter(file.before) and not names_snapshotter(file.after) for file in files)


def _names(stage: undo.Stage) -> list[str]:
    return list(dict.fromkeys([*(one.path for one in stage.files), *(one.unit for one in stage.units)]))


def _stage(ports: Ports, stage: undo.Stage, root: str, report: UnwindReport, say: Say, *, jobs: bool) -> None:
    for scratch in stage.scratch:
        for path, sha256 in ((scratch.path, scratch.sha256), *scratch.also):
            _try(report, path, partial(_scratch, ports, path, sha256))
        _try(report, scratch.path, partial(_remove_directories, ports, scratch.missing))
    for unit in stage.units:
        _try(report, unit.unit, partial(_narrow, ports, unit, root, say, jobs=jobs))
    for file in stage.files:
        say(f"putting back {file.path}")
        _try(report, file.path, partial(_file_back, ports, file))
    if not jobs:
        if stage.reload:
            _try(report, "", partial(_read_again_at_boot, ports))
        for unit in stage.units:
            _try(report, unit.unit, partial(_at_boot, ports, unit))
        return
    if stage.reload:
        _try(report, "", partial(_reload, ports))
    for unit in stage.units:
        _try(report, unit.unit, partial(_widen, ports, unit, say))


def _try(report: UnwindReport, what: str, act: Callable[[], str]) -> None:
    """`act` returns "" where there was nothing to do, else a word for the report."""
    try:
        done = act()
    # One undo that cannot be made must not keep the others from being made.
    except Exception as error:  # noqa: BLE001
        report.left.append(f"{what or 'systemctl daemon-reload'}: {_words(error)}")
    else:
        if done and what:
            report.restored.append(f"{what} ({done})")


def _words(error: Exception) -> str:
    return str(error if isinstance(error, AgentError) else of_a_bug(error))


def _narrow(ports: Ports, unit: undo.UnitBack, root: str, say: Say, *, jobs: bool) -> str:
    """Before the files go back: what was not running stops, what was not enabled is disabled."""
    if unit.verb is UnitVerb.ENABLE and not unit.was_enabled:
        if not jobs:
            return "disabled" if links.disable_at_boot(ports, unit.unit) else ""
        return "disabled" if _disabled(ports, unit.unit) else ""
    if unit.verb in _STARTED and not unit.was_active and jobs:
        fact = ports.units.get(unit.unit)
        if fact is not None and fact.active_state not in ("inactive", "failed"):
            idle = daemons.idle(ports, root, daemons.in_use(ports, root)) if root else ()
            ports.units.job(unit.unit, "stop", deadline_s=waits.job_s(unit.unit))
            daemons.end(ports, idle, say)
            return "stopped"
    return ""


def _disabled(ports: Ports, unit: str) -> bool:
    """Whether something was there to be disabled."""
    if ports.units.get(unit) is None:
        return False
    try:
        links.disable(ports, unit)
    except SystemdError as error:
        if error.code != "NNA0502":
            raise
        # A recovery was killed when it had removed the unit's file, and systemd has not read that yet.
        return links.disable_at_boot(ports, unit)
    return True


def _at_boot(ports: Ports, unit: undo.UnitBack) -> str:
    """Without waiting for systemd, which waits for us: what it has read of its unit files at this boot is too
    new.

    A start or stop that is only queued takes the place of the one that systemd queued when the boot began.
    """
    queued = {UnitVerb.DISABLE: "start"} if unit.was_enabled else {UnitVerb.ENABLE: "stop"}
    verb = queued.get(unit.verb)
    if verb is None:
        return ""
    if verb == "start":
        links.enable_at_boot(ports, unit.unit)
    daemons.run(ports, ["systemctl", "--no-block", "--quiet", verb, unit.unit])
    return "enabled" if verb == "start" else ""


def _widen(ports: Ports, unit: undo.UnitBack, say: Say) -> str:
    """After the files went back: what was running runs on them, what was enabled is enabled."""
    if unit.verb is UnitVerb.DISABLE and unit.was_enabled:
        links.enable(ports, unit.unit)
        return "enabled"
    if not unit.was_active or unit.verb not in (UnitVerb.RESTART, UnitVerb.STOP):
        return ""
    say(f"restarting {unit.unit}")
    ours = unit.unit == paths.SNAPSHOTTER_UNIT
    old = 0 if ours else waits.containerd_pid(ports)
    with contextlib.suppress(FileError):  # an undo is made in any case
        gate.note_restart(ports, unit.unit)
    ports.units.job(unit.unit, "restart", deadline_s=waits.job_s(unit.unit))
    if ours:
        waits.snapshotter(ports, paths.SNAPSHOTTER_SOCKET, waits.ANSWER_S)
    else:
        waits.containerd(ports, old, waits.ANSWER_S, unit.unit)
    return "restarted"


def _read_again_at_boot(ports: Ports) -> str:
    links.read_again_at_boot(ports)
    return ""


def _reload(ports: Ports) -> str:
    ports.units.reload()
    return ""


def _scratch(ports: Ports, path: str, sha256: str) -> str:
    ports.files.sweep(path)
    fact = ports.files.read(path)
    if fact is None or fact.sha256 != sha256:
        return ""
    ports.files.remove(path, expect_sha256=sha256)
    return "removed"


def _file_back(ports: Ports, back: undo.PutBack) -> str:
    fact = ports.files.read(back.path)
    seen = fact.sha256 if fact is not None else ""
    ports.files.sweep(back.path)
    if seen not in (back.before_sha256, back.after_sha256):
        if not back.done and not (fact is not None and names_snapshotter(fact.content)):
            return "as another program made it meanwhile; ours was not written"
        raise FileError(
            "NNA0412", "left alone", cause="another program changed it since; its content was kept"
        )
    if back.before is None:
        if fact is not None:
            ports.files.remove(back.path, expect_sha256=seen)
        _remove_directories(ports, back.missing)
        return "removed, as it was not there before" if fact is not None else ""
    if fact is not None and seen == back.before_sha256 and (fact.mode, fact.uid, fact.gid) == _inode(back):
        return ""
    ports.files.replace(
        back.path, back.before, mode=back.mode, uid=back.uid, gid=back.gid, expect_sha256=seen
    )
    return "as before, byte for byte"


def _inode(back: undo.PutBack) -> tuple[int, int, int]:
    return back.mode, back.uid, back.gid


def _remove_directories(ports: Ports, missing: Sequence[str]) -> str:
    """Those that are empty; never worth a word of their own."""
    for directory in reversed(missing):
        ports.files.remove_empty_directory(directory)
    return ""


def witness(ports: Ports, *, answered: bool, mountpoint: str) -> str:
    """Prove on what was before: "" where containerd answers as it did, else what is wrong."""
    if not answered:
        return ""
    try:
        waits.containerd(ports, 0, waits.ANSWER_S)
        if mountpoint:
            now = waits.poll(ports.clock, waits.ANSWER_S, lambda: _first_mountpoint(ports))
            if now != mountpoint:
                return f"CRI's image file system is {now or 'not known'}, before it was {mountpoint}"
    except Exception as error:  # noqa: BLE001 - what was put back is told, whatever becomes of the look at it
        return _words(error)
    return ""


def _first_mountpoint(ports: Ports) -> str:
    found = ports.containerd.image_fs_info(deadline_s=waits.CALL_S).mountpoints
    return found[0] if found else ""


def withdraw(ports: Ports, begin: journal.Begin, failed: AgentError) -> None:
    """Before an undo: what is accepted must not be undone.

    Where that cannot be told, the next run decides.
    """
    try:
        generations.withdraw(ports.files, begin.generation)
    except Exception as error:  # noqa: BLE001 - an undo of what is accepted would be worse than none
        then = error if isinstance(error, AgentError) else of_a_bug(error)
        raise ApplyError(
            "NNA0403", f"{begin.verb} failed, and not everything could be put back",
            cause=f"[{failed.code}] {failed.what}: {failed.cause}; and then: {then}", seen=failed.seen,
            try_="mend what is named above, then: nydus-agent recover",
        ) from None  # fmt: skip


def put_back(
    ports: Ports,
    begin: journal.Begin,
    intents: tuple[journal.Intent, ...],
    failed: AgentError,
    say: Callable[[str], None],
) -> ApplyError:
    """Undo and prove what was before; the error to raise says both causes and what exactly was put back.

    The journal is closed only when everything was put back: otherwise the next run tries again.
    """
    unfailing(say)(f"failed: {failed.what}; putting the node back as it was")
    report = unwind(ports, journal.undos(intents), begin.root, jobs=True, say=say)
    wrong = witness(ports, answered=begin.containerd_answered, mountpoint=begin.mountpoint)
    if wrong:
        report.left.append(f"containerd after that: {wrong}")
    if report.complete:
        try:
            ports.ledger.close()
            confirm.tidy(ports)
        except FileError as error:
            report.left.append(str(error))
    cause = (
        f"[{failed.code}] {failed.what}: {failed.cause}" if failed.cause else f"[{failed.code}] {failed.what}"
    )
    seen = (*failed.seen, *(f"put back: {one}" for one in report.restored))
    if report.complete:
        return ApplyError(
            "NNA0402", f"{begin.verb} failed; the node is as it was before", cause=cause,
            seen=seen or ("nothing had been changed yet",), try_=failed.try_,
        )  # fmt: skip
    left = tuple(f"NOT put back: {one}" for one in report.left)
    return ApplyError(
        "NNA0403", f"{begin.verb} failed, and not everything could be put back",
        cause=f"{cause}; and then: {'; '.join(report.left)}", seen=(*seen, *left),
        try_="mend what is named above, then: nydus-agent recover",
    )  # fmt: skip
