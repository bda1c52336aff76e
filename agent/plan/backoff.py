"""How often the same thing is put back, before it is left to people. Pure.

Somebody who changes it again each time (configuration management, another agent) means it: a fight with him
restarts units and helps nobody. So each repair that follows another one waits four times as long, and the
fifth is the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from agent.durations import in_words

MOST = 5
FIRST_WAIT_S = 60.0
_GROWTH = 4.0
FORGET_S = 86400.0
"""After a day without another repair the next one is the first."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """How often a subject was put back of late, and when last (seconds since the epoch)."""

    subject: str
    times: int
    at: float


@dataclass(frozen=True, slots=True)
class RepairAccount:
    """All that was put back of late, as root keeps it."""

    KIND: ClassVar = "Repairs"
    repairs: tuple[Repaired, ...]


def wait_s(of: Repaired | None, now: float) -> float | None:
    """Seconds until the subject may be put back again; None: it was often enough.

    A clock that was stepped back makes it wait the whole time again.
    """
    if of is None or now - of.at >= FORGET_S:
        return 0.0
    if of.times >= MOST:
        return None
    passed = max(0.0, now - of.at)
    return max(0.0, FIRST_WAIT_S * math.pow(_GROWTH, of.times - 1) - passed)


def note(known: Sequence[Repaired], subjects: Iterable[str], now: float) -> tuple[Repaired, ...]:
    """After another repair of these subjects; what is long ago is forgotten."""
    rows = {one.subject: one for one in known if now - one.at < FORGET_S}
    for subject in subjects:
        before = rows.get(subject, Repaired(subject, 0, now))
        rows[subject] = replace(before, times=before.times + 1, at=now)
    return tuple(rows.values())


def without(known: Sequence[Repaired], subjects: Iterable[str]) -> tuple[Repaired, ...]:
    """After somebody has put these back by hand: for them the count begins anew."""
    gone = set(subjects)
    return tuple(one for one in known if one.subject not in gone)


def gave_up(known: Sequence[Repaired], subjects: Iterable[str], now: float) -> tuple[str, ...]:
    """What is left to people among the subjects that are not as they were applied, in words."""
    wrong = set(subjects)
    return tuple(
        f"{one.subject} was put back {one.times} times, last {in_words(now - one.at)} ago, and changed "
        f"again each time"
        for one in known
        if one.subject in wrong and wait_s(one, now) is None
    )
