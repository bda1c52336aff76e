"""What apply, remove and recover share: progress on the console, signals that stop between two steps, and whether one
of them is under way.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from agent.apply.execute import Progress, Stop
from agent.apply.transaction import Surroundings
from agent.console import Console, Tone, Toned
from agent.errors import LockedError
from agent.ports import Ledger

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def surroundings(console: Console) -> Iterator[Surroundings]:
    """Reports to `console`; a first signal lets the step under way end and then undoes everything, more change nothing.

    A terminal that is closed is such a signal too: what was begun is never left half done.
    """
    stop = Stop()

    def caught(number: int, _frame: FrameType | None) -> None:
        stop.signal = stop.signal or signal.Signals(number).name

    before = {number: signal.signal(number, caught) for number in _SIGNALS}
    try:
        yield Surroundings(console.progress, lambda progress: _tell(console, progress), stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(console: Console, progress: Progress) -> None:
    console.progress(
        Toned(f"[{progress.number}/{progress.total}]", Tone.FAINT), f" {progress.what} ({progress.took_s:.1f} s)"
    )


def busy(ledger: Ledger, who: str) -> str:
    """Who holds the lock of changes and drills, with its command line; "" = nobody.

    The lock is not kept: an apply must never wait for one that only looks.
    """
    try:
        with ledger.lock(who):
            return ""
    except LockedError as error:
        return error.cause
