"""Bounds on times that a busy machine can miss. Such a miss may be repeated, and each repeat is counted and
told at the end of the run; a wrong value is a failure at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

REPEATED = "time bound repeated"
"""The name of the property in the junit file, one for each repeat (tests/runner/report.py sums them)."""
TRIES = 20
ENOUGH = 18
missed: list[str] = []
"""What the running test has missed and tried again."""


class MissedTimeError(AssertionError):
    """A time was not kept. Only this is repeated."""


def within(took: float, bound: float, what: str) -> float:
    """The time itself, where it is below the bound. Raises MissedTimeError."""
    if took >= bound:
        raise MissedTimeError(f"{what}: {took:.4g}, and must be below {bound:g}")
    return took


def repeated(attempt: Callable[[], T], tries: int = 3) -> T:
    """What an attempt returns, the first that misses no time. Whatever else it raises ends the test."""
    for _ in range(tries - 1):
        try:
            return attempt()
        except MissedTimeError as error:
            missed.append(str(error))
            print(f"repeated: {error}")
    return attempt()


def mostly(attempt: Callable[[], float], bound: float, what: str) -> list[float]:
    """The times of 20 attempts, of which 18 must be below the bound; it ends as soon as that is decided."""
    kept: list[float] = []
    late: list[str] = []
    while len(kept) < ENOUGH:
        try:
            kept.append(within(attempt(), bound, what))
        except MissedTimeError as error:
            late.append(str(error))
            if len(late) > TRIES - ENOUGH:
                raise MissedTimeError(
                    f"{len(late)} of {len(kept) + len(late)} attempts: {'; '.join(late)}"
                ) from None
            missed.append(str(error))
    print(
        f"{what}: {len(kept)} of {len(kept) + len(late)} below {bound:g}, the longest of them {max(kept):.4g}"
    )
    return kept
