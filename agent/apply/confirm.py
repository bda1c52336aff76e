"""A change that must be confirmed: it is taken back by itself unless somebody says in time that it may stay.

Before the first act two things are made: a timer of systemd that starts `rollback`, which survives the
terminal and the process that asked for it, and a record on the disk, which survives a reboot. `confirm` is
the removal of the record: one act, after which nothing takes the change back. A reboot in between counts as
"not confirmed": the timer is gone, and a node that had to be rebooted may not be well; `recover` takes the
change back before the runtimes start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from agent import paths
from agent.codec import to_document
from agent.durations import in_words
from agent.errors import ApplyError, FileError, SystemdError
from agent.ports import Alarm, Files, Ports
from agent.records import generations, journal, json_files
from agent.records.generations import Pending, TakenBack

TIMER = "nydus-agent-rollback"
SHORTEST, LONGEST = "30s", "1d"
"""A change takes up to half of the shortest, and a person must still be able to look and to type."""

_RUN_S = 1200.0
"""Each wait in a rollback has a shorter deadline of its own."""
_TRIES = 3
_RETRY_S = 30.0


def arm(ports: Ports, begin: journal.Begin, seconds: int, argv: Sequence[str]) -> None:
    """From now on the change is taken back in so many seconds. Before its first act; the caller holds the
    lock.

    `argv` is the program that does it; it is given the transaction's id. Raises FileError, SystemdError.
    """
    now = ports.clock.moment()
    pending = Pending(
        begin.id, begin.generation, seconds, now.now, now.boot, now.boottime, ports.ledger.holder()
    )  # fmt: skip
    about = f"Take generation {begin.generation} of nydus-node-agent back: it was not confirmed"
    ports.alarms.set(
        Alarm(TIMER, about, (*argv, f"--unconfirmed={begin.id}"), seconds, _RUN_S, _TRIES, _RETRY_S)
    )
    try:
        _write(ports.files, paths.UNCONFIRMED, pending)
    except FileError:
        _silence(ports)
        raise


def pending(files: Files) -> Pending | None:
    """The change that waits; it may have been undone meanwhile (`waiting`). Raises FileError."""
    return json_files.load(Pending, files, paths.UNCONFIRMED)


def is_open(ports: Ports, change: Pending) -> bool:
    """Whether it is under way, or was cut off and not yet undone. Raises ApplyError NNA0410, FileError."""
    found = journal.read(ports.ledger)
    return found is not None and found.begin.id == change.id


def waiting(ports: Ports) -> Pending | None:
    """The change that waits for its confirmation and is on the node.

    Raises ApplyError NNA0410, FileError.
    """
    change = pending(ports.files)
    if change is None:
        return None
    newest = generations.newest(ports.files)
    if is_open(ports, change) or (newest is not None and newest.id == change.id):
        return change
    return None


def refuse_another(ports: Ports) -> None:
    """Raises ApplyError NNA0417 where a change waits: another one on top could not be told apart from it."""
    change = waiting(ports)
    if change is None:
        tidy(ports)
        return
    left = in_words(change.left_s(ports.clock.moment()))
    raise ApplyError(
        "NNA0417", f"generation {change.generation} waits for its confirmation; nothing was changed",
        cause=f"it is taken back in {left} unless somebody confirms it",
        seen=("nydus-agent confirm keeps it", "nydus-agent rollback takes it back now"),
        try_="nydus-agent confirm",
    )  # fmt: skip


def confirm(ports: Ports) -> tuple[Pending, float] | None:
    """Keep the change that waits: which, and how many seconds were left. None: none waits. The caller holds
    the lock.

    Raises ApplyError NNA0418 (too late, or the change did not come to its end), NNA0410, FileError.
    """
    change = waiting(ports)
    if change is None:
        tidy(ports)
        _refuse_late(ports)
        return None
    newest = generations.newest(ports.files)
    if newest is None or newest.id != change.id:
        raise ApplyError(
            "NNA0418", f"the change to generation {change.generation} was cut off and cannot be confirmed",
            cause=f"process {change.pid} did not bring it to its end; it will be undone",
            try_="nydus-agent rollback",
        )  # fmt: skip
    left = change.left_s(ports.clock.moment())
    tidy(ports, kept=True)
    forget_taken(ports.files)
    return change, left


def _refuse_late(ports: Ports) -> None:
    late = taken(ports.files)
    if late is None or late.newest != _newest_number(ports.files):
        return
    ago = in_words(max(0.0, ports.clock.now() - late.at))
    raise ApplyError(
        "NNA0418",
        "too late: the change was taken back",
        cause=f"{late.why}, {ago} ago",
        try_="nydus-agent generations",
    )


def tidy(ports: Ports, *, kept: bool = False) -> None:
    """Forget a change that does not wait any more: it was `kept`, or is not on the node. Raises FileError."""
    if pending(ports.files) is None or (not kept and waiting(ports) is not None):
        return
    json_files.drop(ports.files, paths.UNCONFIRMED)
    _silence(ports)


def _silence(ports: Ports) -> None:
    with contextlib.suppress(SystemdError):  # an alarm without the record does nothing
        ports.alarms.cancel(TIMER)


def note_taken(ports: Ports, change: Pending, newest: int, why: str) -> TakenBack:
    """Before the change is taken back: a note for who confirms too late, and so that nothing begins it again
    by itself.

    It counts once `newest` is the newest generation. Raises FileError.
    """
    done = TakenBack(change.id, change.generation, ports.clock.now(), newest, why)
    _write(ports.files, paths.TAKEN_BACK, done)
    return done


def forget_taken(files: Files) -> None:
    """A change that somebody ordered or confirmed ends what was taken back. Raises FileError."""
    json_files.drop(files, paths.TAKEN_BACK)


def taken(files: Files) -> TakenBack | None:
    """The last change that was taken back. Raises FileError."""
    return json_files.load(TakenBack, files, paths.TAKEN_BACK)


def hold(files: Files) -> str:
    """Why no change may begin by itself; "" where one may. What was taken back holds until somebody says
    `apply`, as a rollback does. Raises ApplyError NNA0410, FileError.
    """
    last = taken(files)
    if last is not None and last.newest == _newest_number(files):
        return f"{last.why}; that holds until nydus-agent apply"
    return generations.hold(files)


def _newest_number(files: Files) -> int:
    return max(generations.numbers(files), default=0)


def _write(files: Files, path: str, record: Pending | TakenBack) -> None:
    json_files.replace(files, path, to_document(record), found=files.read(path), mode=0o644)
