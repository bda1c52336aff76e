"""A transaction that nobody closed (kill -9, power cut): finish it where it was accepted, undo it
otherwise.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from agent import paths
from agent.apply import confirm, daemons, unwind
from agent.errors import ApplyError, PortError, SystemdError
from agent.ports import Ports
from agent.proof import drift
from agent.records import generations, journal, json_files
from agent.records.generations import Generation


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found and done."""

    verb: str
    started: float
    finished: bool
    """True: it had been accepted, only its end was missing. False: it was undone."""
    restored: tuple[str, ...] = ()


def finish(ports: Ports, *, jobs: bool, say: Callable[[str], None]) -> Recovered | None:
    """Close an open journal; None where there is none. The caller holds the lock.

    `jobs` False: files only (at boot). Raises ApplyError NNA0403 where something could not be put back (the
    journal then stays, the next run tries again), NNA0410, FileError.
    """
    found = journal.read(ports.ledger)
    _tidy(ports)
    if found is None:
        ports.ledger.spend()  # a run that was killed at the end of its journal may have left it
        return None
    last = generations.newest(ports.files)
    if last is not None and last.id == found.begin.id:
        settle(ports, last)
        return Recovered(found.begin.verb, found.begin.started, finished=True)
    say(f"undoing an interrupted {found.begin.verb}")
    report = unwind.unwind(ports, journal.undos(found.intents), found.begin.root, jobs=jobs, say=say)
    if jobs:
        wrong = unwind.witness(
            ports, answered=found.begin.containerd_answered, mountpoint=found.begin.mountpoint
        )
        report.left.extend([f"containerd after that: {wrong}"] if wrong else [])
    if not report.complete:
        raise ApplyError(
            "NNA0403", f"an interrupted {found.begin.verb} could not be undone as a whole",
            cause="; ".join(report.left), seen=tuple(f"put back: {one}" for one in report.restored),
            try_="mend what is named above, then: nydus-agent recover",
        )  # fmt: skip
    ports.ledger.close()
    confirm.tidy(ports)
    return Recovered(found.begin.verb, found.begin.started, finished=False, restored=tuple(report.restored))


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


def _tidy(ports: Ports) -> None:
    """What a killed writer of our own state left beside it (of the node's files the undo takes care)."""
    for directory in (paths.STATE_DIR, paths.GENERATIONS):
        ports.files.sweep(f"{directory}/")


def runtime_runs(ports: Ports) -> bool:
    """Whether a unit that runs containerd is active: then an undo must restart it, and this is not the boot.

    At boot it is not, because recovery is ordered before it: a job would wait for the unit that waits for us.
    """
    try:
        units = [ports.units.get(unit) for unit in paths.RUNTIME_UNITS] if ports.units.running() else []
    except SystemdError:
        return False
    return any(unit is not None and unit.active_state == "active" for unit in units)


def _clear(ports: Ports, removal: generations.Generation) -> None:
    """The last of a removal: what says that something was there goes, and directories that we had made.

    May run twice, because a run may be killed in here. Raises ApplyError NNA0410, FileError.
    """
    for path in (paths.PROOF, paths.DRIFT, paths.REPAIRS):
        json_files.drop(ports.files, path)
    # Sockets of the snapshotter, which does not remove all of them; a file system in memory, but why leave
    # them.
    for socket in (paths.SNAPSHOTTER_SOCKET, paths.SNAPSHOTTER_SYSTEM_SOCKET):
        daemons.run(ports, ["rm", "--force", "--", socket])
    ports.files.remove_empty_directory(posixpath.dirname(paths.SNAPSHOTTER_SOCKET))
    history = generations.history(ports.files, before=removal.number)
    made = {directory for one in generations.originals(history) for directory in one.missing}
    for directory in sorted(made, key=len, reverse=True):
        ports.files.remove_empty_directory(directory)
