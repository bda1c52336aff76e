"""What the verbs that change the node share: progress on the console, signals that stop between two steps,
options, and whether one of them is under way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from agent.apply.change import Surroundings
from agent.apply.execute import Progress, Stop
from agent.apply.gate import Urgency
from agent.console import Console, Tone, Toned
from agent.documents.applied import CheckResult
from agent.errors import AgentError, ApplyError, LockedError, of_a_bug
from agent.ports import Ledger
from agent.records.journal import Begin

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A terminal that is closed is such a signal too."""


@contextmanager
def caught_by(handler: Callable[[str], None]) -> Iterator[None]:
    """Within the block these signals call `handler` with their names; afterwards they mean what they did
    before.
    """

    def caught(number: int, _frame: FrameType | None) -> None:
        handler(signal.Signals(number).name)

    before = {number: signal.signal(number, caught) for number in ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def surroundings(
    console: Console, each: Callable[[CheckResult], None] = lambda _: None
) -> Iterator[Surroundings]:
    """Reports to `console`; `each` is told of every check. A first signal lets the step under way end and
    then undoes everything, more change nothing.

    A terminal that is closed is such a signal too: what was begun is never left half done. Raises ApplyError
    NNA0420 in place of any error that comes once a change was accepted.
    """
    stop = Stop()

    def caught(name: str) -> None:
        stop.signal = stop.signal or name

    around = Surroundings(console.progress, lambda progress: _tell(console, progress), stop, each)
    with caught_by(caught):
        try:
            yield around
            console.out.flush()
        except BrokenPipeError:
            raise
        except Exception as error:
            if not around.accepted:
                raise
            raise _stands(around.accepted[-1], error) from error


def _stands(accepted: Begin, error: Exception) -> ApplyError:
    failed = error if isinstance(error, AgentError) else of_a_bug(error)
    cause = (
        f"[{failed.code}] {failed.what}: {failed.cause}" if failed.cause else f"[{failed.code}] {failed.what}"
    )
    what = f"{accepted.verb} is done and stands, but what follows it failed"
    return ApplyError("NNA0420", what, cause=cause, seen=failed.seen)


def _tell(console: Console, progress: Progress) -> None:
    console.progress(
        Toned(f"[{progress.number}/{progress.total}]", Tone.FAINT),
        f" {progress.what} ({progress.took_s:.1f} s)",
    )


def add_now(add_argument: Callable[..., object]) -> None:
    """The option --now of the verbs that change the node, by a parser's or a group's `add_argument`."""
    add_argument(
        "--now", action="store_true",
        help='restart what has to restart now, whatever restarts_per_hour and restart = "never" say',
    )  # fmt: skip


def urgency_of(*, now: bool, by_itself: bool = False) -> Urgency:
    """Who wants the change, by the options: somebody who says --now, nobody, or somebody who can wait."""
    return Urgency.NOW if now else Urgency.BY_ITSELF if by_itself else Urgency.BY_HAND


def busy(ledger: Ledger, who: str) -> str:
    """Who holds the lock of changes and drills, with its command line; "" = nobody.

    The lock is not kept: an apply must never wait for one that only looks.
    """
    try:
        with ledger.lock(who):
            return ""
    except LockedError as error:
        return error.cause
