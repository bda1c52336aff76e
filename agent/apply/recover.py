"""Put a node back: run the undo records of a transaction, newest stage first, and say what came of it.

It follows a change that failed, and one that nobody closed (kill -9, power cut): that is finished where it
was accepted, and undone otherwise.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from agent import paths
from agent.apply import confirm, gate, services
from agent.containerd.view import names_snapshotter
from agent.errors import AgentError, ApplyError, FileError, PortError, SystemdError, of_a_bug
from agent.node import waits
from agent.ports import Ports
from agent.proof import drift
from agent.records import generations, journal, json_files
from agent.records.generations import Generation
from agent.steps import UnitVerb

Say = Callable[[str], None]
_STARTED = (UnitVerb.START, UnitVerb.RESTART)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found and done."""

    verb: str
    started: float
    finished: bool
    """True: it had been accepted, only its end was missing. False: it was undone."""
    restored: tuple[str, ...] = ()


def finish(ports: Ports, *, jobs: bool, say: Say) -> Recovered | None:
    """Close an open journal; None where there is none. The caller holds the lock.

    `jobs` False: files only (at boot). Raises ApplyError NNA0403 where something could not be put back (the
    journal then stays, the next run tries again), NNA0410, FileError.
    """
    found = journal.read(ports.ledger)
    for directory in (paths.STATE_DIR, paths.GENERATIONS):
        # What a killed writer of our own state left beside it (of the node's files the undo takes care).
        ports.files.sweep(f"{directory}/")
    if found is None:
        ports.ledger.spend()  # a run that was killed at the end of its journal may have left it
        return None
    begin = found.begin
    last = generations.newest(ports.files)
    if last is not None and last.id == begin.id:
        settle(ports, last)
        return Recovered(begin.verb, begin.started, finished=True)
    say(f"undoing an interrupted {begin.verb}")
    report = _take_back(ports, begin, found.intents, say, jobs=jobs)
    if not report.complete:
        what = f"an interrupted {begin.verb} could not be undone as a whole"
        raise _incomplete(what, "; ".join(report.left), report.words)
    return Recovered(begin.verb, begin.started, finished=False, restored=tuple(report.restored))


def put_back(
    ports: Ports, begin: journal.Begin, intents: tuple[journal.Intent, ...], failed: AgentError, say: Say
) -> ApplyError:
    """Undo a change that has `failed`, and prove what was before; the error to raise says both causes and
    what exactly was put back.

    The journal is closed only when everything was put back: otherwise the next run tries again.
    """
    cause = f"[{failed.code}] {failed.what}" + (f": {failed.cause}" if failed.cause else "")
    incomplete = f"{begin.verb} failed, and not everything could be put back"
    try:
        generations.withdraw(ports.files, begin.generation)  # what is accepted must not be undone
    except Exception as error:  # noqa: BLE001 - then the next run decides: to undo it now could be worse
        return _incomplete(incomplete, f"{cause}; and then: {_error(error)}", failed.seen)
    unfailing(say)(f"failed: {failed.what}; putting the node back as it was")
    report = _take_back(ports, begin, intents, say, jobs=True)
    seen = (*failed.seen, *report.words)
    if report.complete:
        return ApplyError(
            "NNA0402", f"{begin.verb} failed; the node is as it was before", cause=cause,
            seen=seen or ("nothing had been changed yet",), try_=failed.try_,
        )  # fmt: skip
    left = tuple(f"NOT put back: {one}" for one in report.left)
    return _incomplete(incomplete, f"{cause}; and then: {'; '.join(report.left)}", (*seen, *left))


def _incomplete(what: str, cause: str, seen: tuple[str, ...]) -> ApplyError:
    mend = "mend what is named above, then: nydus-agent recover"
    return ApplyError("NNA0403", what, cause=cause, seen=seen, try_=mend)


def _take_back(
    ports: Ports, begin: journal.Begin, intents: tuple[journal.Intent, ...], say: Say, *, jobs: bool
) -> UnwindReport:
    """Undo a transaction, and close its journal once all is put back."""
    report = unwind(ports, journal.undos(intents), begin.root, jobs=jobs, say=say)
    wrong = _witness(ports, begin) if jobs else ""
    if wrong:
        report.left.append(f"containerd after that: {wrong}")
    if report.complete:
        try:
            ports.ledger.close()
            confirm.tidy(ports)
        except FileError as error:
            report.left.append(str(error))
    return report


def settle(ports: Ports, accepted: Generation) -> None:
    """The end of an accepted transaction: what the daemon reads, the last of a removal, and the journal
    closed.

    May run twice.
    """
    generations.publish(ports.files, accepted)
    if accepted.verb == "remove":
        _clear(ports, accepted)
    with contextlib.suppress(PortError, ApplyError):  # no room, say: the next inspection makes it
        drift.publish_expected(ports, accepted)
    ports.ledger.close()
    if accepted.verb == "apply":
        confirm.forget_taken(ports.files)
    confirm.tidy(ports)


def runtime_runs(ports: Ports) -> bool:
    """Whether a unit that runs containerd is active: then an undo must restart it, and this is not the boot.

    At boot it is not, because recovery is ordered before it: a job would wait for the unit that waits for us.
    """
    try:
        units = [ports.units.get(unit) for unit in paths.RUNTIME_UNITS] if ports.units.running() else []
    except SystemdError:
        return False
    return any(unit is not None and unit.active_state == "active" for unit in units)


def _clear(ports: Ports, removal: Generation) -> None:
    """The last of a removal: what says that something was there goes, and directories that we had made.

    May run twice, because a run may be killed in here. Raises ApplyError NNA0410, FileError.
    """
    for path in (paths.PROOF, paths.DRIFT, paths.REPAIRS):
        json_files.drop(ports.files, path)
    # Sockets of the snapshotter, which does not remove all of them; a file system in memory, but why leave
    # them.
    for socket in (paths.SNAPSHOTTER_SOCKET, paths.SNAPSHOTTER_SYSTEM_SOCKET):
        services.run(ports, ["rm", "--force", "--", socket])
    ports.files.remove_empty_directory(posixpath.dirname(paths.SNAPSHOTTER_SOCKET))
    history = generations.history(ports.files, before=removal.number)
    made = {directory for one in generations.file_histories(history) for directory in one.first.missing}
    for directory in sorted(made, key=len, reverse=True):
        ports.files.remove_empty_directory(directory)


@dataclass
class UnwindReport:
    """What was put back, and what was not (each with the reason)."""

    restored: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Everything is as it was."""
        return not self.left

    @property
    def words(self) -> tuple[str, ...]:
        """What was put back, for an error."""
        return tuple(f"put back: {one}" for one in self.restored)


def unwind(ports: Ports, undos: Sequence[journal.Undo], root: str, *, jobs: bool, say: Say) -> UnwindReport:
    """Undo, newest stage first. Never raises for what one undo cannot do: that goes into the report.

    It stops where to go on would leave containerd with the name of a snapshotter that does not run: the node
    then is what it was in the middle of the change, and each such state is safe (`plan.invariants`).

    `root` is the snapshotter's. `jobs` False is for the boot: files only, because a queued job would wait for
    the unit that waits for us.
    """
    report = UnwindReport()
    say = unfailing(say)
    ports.ledger.spend()
    stages = journal.stages(undos)
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


def _still_named(ports: Ports, stage: journal.Stage) -> bool:
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


def _named_again(stages: Sequence[journal.Stage]) -> bool:
    """Whether what is left to be undone took the snapshotter's name out of a file."""
    files = [file for stage in stages for file in stage.files]
    return any(names_snapshotter(file.before) and not names_snapshotter(file.after) for file in files)


def _names(stage: journal.Stage) -> list[str]:
    return list(dict.fromkeys([*(one.path for one in stage.files), *(one.unit for one in stage.units)]))


def _stage(
    ports: Ports, stage: journal.Stage, root: str, report: UnwindReport, say: Say, *, jobs: bool
) -> None:
    for scratch in stage.scratch:
        for path, sha256 in ((scratch.path, scratch.sha256), *scratch.also):
            _try(report, path, partial(_scratch, ports, path, sha256))
        _try(report, scratch.path, partial(_remove_directories, ports, scratch.missing))
    for unit in stage.units:
        _try(report, unit.unit, partial(_narrow, ports, unit, root, say, jobs=jobs))
    for file in stage.files:
        say(f"putting back {file.path}")
        _try(report, file.path, partial(_file_back, ports, file))
    if stage.reload:
        read = ports.units.reload if jobs else partial(services.read_again_at_boot, ports)
        _try(report, "systemctl daemon-reload", read)
    for unit in stage.units:
        _try(report, unit.unit, partial(_widen, ports, unit, say) if jobs else partial(_at_boot, ports, unit))


def _try(report: UnwindReport, what: str, act: Callable[[], str | None]) -> None:
    """`act` returns a word for the report, or nothing where there was nothing to do."""
    try:
        done = act()
    # One undo that cannot be made must not keep the others from being made.
    except Exception as error:  # noqa: BLE001
        report.left.append(f"{what}: {_error(error)}")
    else:
        if done:
            report.restored.append(f"{what} ({done})")


def _error(error: Exception) -> AgentError:
    return error if isinstance(error, AgentError) else of_a_bug(error)


def _narrow(ports: Ports, unit: journal.UnitBack, root: str, say: Say, *, jobs: bool) -> str:
    """Before the files go back: what was not running stops, what was not enabled is disabled."""
    if unit.verb is UnitVerb.ENABLE and not unit.was_enabled:
        if not jobs:
            return "disabled" if services.disable_at_boot(ports, unit.unit) else ""
        return "disabled" if _disabled(ports, unit.unit) else ""
    if unit.verb in _STARTED and not unit.was_active and jobs:
        fact = ports.units.get(unit.unit)
        if fact is not None and fact.active_state not in ("inactive", "failed"):
            idle = services.idle(ports, root, services.in_use(ports, root)) if root else ()
            ports.units.job(unit.unit, "stop", deadline_s=waits.job_s(unit.unit))
            services.end(ports, idle, say)
            return "stopped"
    return ""


def _disabled(ports: Ports, unit: str) -> bool:
    """Whether something was there to be disabled."""
    if ports.units.get(unit) is None:
        return False
    try:
        services.disable(ports, unit)
    except SystemdError as error:
        if error.code != "NNA0502":
            raise
        # A recovery was killed when it had removed the unit's file, and systemd has not read that yet.
        return services.disable_at_boot(ports, unit)
    return True


def _at_boot(ports: Ports, unit: journal.UnitBack) -> str:
    """Without waiting for systemd, which waits for us: what it has read of its unit files at this boot is too
    new.

    A start or stop that is only queued takes the place of the one that systemd queued when the boot began.
    """
    queued = {UnitVerb.DISABLE: "start"} if unit.was_enabled else {UnitVerb.ENABLE: "stop"}
    verb = queued.get(unit.verb)
    if verb is None:
        return ""
    if verb == "start":
        services.enable_at_boot(ports, unit.unit)
    services.run(ports, ["systemctl", "--no-block", "--quiet", verb, unit.unit])
    return "enabled" if verb == "start" else ""


def _widen(ports: Ports, unit: journal.UnitBack, say: Say) -> str:
    """After the files went back: what was running runs on them, what was enabled is enabled."""
    if unit.verb is UnitVerb.DISABLE and unit.was_enabled:
        services.enable(ports, unit.unit)
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


def _scratch(ports: Ports, path: str, sha256: str) -> str:
    ports.files.sweep(path)
    fact = ports.files.read(path)
    if fact is None or fact.sha256 != sha256:
        return ""
    ports.files.remove(path, expect_sha256=sha256)
    return "removed"


def _file_back(ports: Ports, back: journal.PutBack) -> str:
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
    if (
        fact is not None
        and seen == back.before_sha256
        and (fact.mode, fact.uid, fact.gid) == (back.mode, back.uid, back.gid)
    ):
        return ""
    ports.files.replace(
        back.path, back.before, mode=back.mode, uid=back.uid, gid=back.gid, expect_sha256=seen
    )
    return "as before, byte for byte"


def _remove_directories(ports: Ports, missing: Sequence[str]) -> None:
    """Those that are empty; never worth a word of their own."""
    for directory in reversed(missing):
        ports.files.remove_empty_directory(directory)


def _witness(ports: Ports, begin: journal.Begin) -> str:
    """Prove on what was before: "" where containerd answers as it did, else what is wrong."""
    if not begin.containerd_answered:
        return ""
    try:
        waits.containerd(ports, 0, waits.ANSWER_S)
        if begin.mountpoint:
            now = waits.poll(ports.clock, waits.ANSWER_S, lambda: first_mountpoint(ports))
            if now != begin.mountpoint:
                return f"CRI's image file system is {now or 'not known'}, before it was {begin.mountpoint}"
    except Exception as error:  # noqa: BLE001 - what was put back is told, whatever becomes of the look at it
        return str(_error(error))
    return ""


def first_mountpoint(ports: Ports) -> str:
    """CRI's image file system, "" where it tells none. Raises ContainerdError."""
    found = ports.containerd.image_fs_info(deadline_s=waits.CALL_S).mountpoints
    return found[0] if found else ""
