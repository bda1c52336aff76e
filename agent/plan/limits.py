"""How often we restart units, and put the same thing back. Pure.

A restart holds new pods and pulls up for seconds and is no remedy for a fault elsewhere, so two rules bound
it:

- *Budget*: at most so many of a unit within an hour, and half of that for what begins by itself, so that a
  loop of repairs leaves something to the person who ends it.
- *Cooldown*: what begins by itself restarts a unit that it has restarted within that hour only when the unit
  has run for a while. By InactiveExitTimestamp and not ActiveEnterTimestamp, which a unit that dies while it
  starts never reaches (kubernetes/node-problem-detector#444: a loop of kills). The first restart of an hour
  does not wait: a node that is set up right after its boot, or after containerd was upgraded, is no loop.

An undo is never refused: to leave a node half changed is worse than one more restart. But it counts.

Somebody who changes a thing again each time that it is put back (configuration management, another agent)
means it: a fight with him restarts units and helps nobody. So each repair that follows another one waits four
times as long, and the fifth is the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from agent.durations import in_words
from agent.facts.node import Moment, UnitFact

WINDOW_S = 3600.0
COOLDOWN_S = 120.0
"""node-problem-detector's own (health-checker, --cooldown-time)."""
MOST_REPAIRS = 5
FIRST_REPAIR_WAIT_S = 60.0
_GROWTH = 4.0
FORGET_REPAIRS_S = 86400.0
"""After a day without another repair the next one is the first."""


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart that we made, when by each clock."""

    unit: str
    at: float
    """Seconds since the epoch."""
    boot: str
    boottime: float

    def age_s(self, now: Moment) -> float:
        """How long ago. Within one boot the boot clock alone counts: a wall clock that is stepped ages
        nothing.

        Of an earlier boot: at least this boot's length; how long the machine was off, only the wall clock can
        know.
        """
        if self.boot == now.boot:
            return max(0.0, now.boottime - self.boottime)
        up_s = now.boottime if now.up_s is None else now.up_s
        return max(up_s, now.now - self.at)


@dataclass(frozen=True, slots=True)
class RestartAccount:
    """The restarts that we made, as root keeps them."""

    KIND: ClassVar = "Restarts"
    restarts: tuple[Restart, ...] = ()


@dataclass(frozen=True, slots=True)
class RestartBudget:
    """What bounds the restarts of each unit."""

    per_hour: int
    cooldown_s: float


def by_hand(per_hour: int) -> RestartBudget:
    """Somebody asked for this very change."""
    return RestartBudget(per_hour, 0.0)


def by_itself(per_hour: int) -> RestartBudget:
    """Nobody is there: an installation, a boot, a repair."""
    return RestartBudget(max(1, per_hour // 2), COOLDOWN_S)


@dataclass(frozen=True, slots=True)
class NotBefore:
    """A restart may not be made yet; in `seconds` it may, if no other comes in between."""

    seconds: float
    reason: str


def why_wait(
    unit: UnitFact, history: Sequence[Restart], now: Moment, policy: RestartBudget
) -> NotBefore | None:
    """Whether `unit` (as systemd sees it) may be restarted now, after the restarts in `history` (of any
    unit); None: it may.
    """
    ages = sorted(age for one in history if one.unit == unit.name and (age := one.age_s(now)) < WINDOW_S)
    if len(ages) >= policy.per_hour:
        wait = WINDOW_S - ages[policy.per_hour - 1]
        made = f"{len(ages)} restart{'s' if len(ages) != 1 else ''} of {unit.name} within the last hour"
        return NotBefore(wait, f"{made}, of {policy.per_hour} that are allowed")
    if ages and policy.cooldown_s > 0:
        runs = max(0.0, now.monotonic - unit.inactive_exit_us / 1e6)
        if runs < policy.cooldown_s:
            why = f"{unit.name} has run for {in_words(runs)} only, and was restarted within the last hour"
            return NotBefore(policy.cooldown_s - runs, why)
    return None


def kept_restarts(history: Sequence[Restart], now: Moment) -> tuple[Restart, ...]:
    """Those that still count."""
    return tuple(one for one in history if one.age_s(now) < WINDOW_S)


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


def repair_wait_s(of: Repaired | None, now: float) -> float | None:
    """Seconds until the subject may be put back again; None: it was often enough.

    A clock that was stepped back makes it wait the whole time again.
    """
    if of is None or now - of.at >= FORGET_REPAIRS_S:
        return 0.0
    if of.times >= MOST_REPAIRS:
        return None
    passed = max(0.0, now - of.at)
    return max(0.0, FIRST_REPAIR_WAIT_S * math.pow(_GROWTH, of.times - 1) - passed)


def note_repairs(known: Sequence[Repaired], subjects: Iterable[str], now: float) -> tuple[Repaired, ...]:
    """After another repair of these subjects; what is long ago is forgotten."""
    rows = {one.subject: one for one in known if now - one.at < FORGET_REPAIRS_S}
    for subject in subjects:
        before = rows.get(subject, Repaired(subject, 0, now))
        rows[subject] = replace(before, times=before.times + 1, at=now)
    return tuple(rows.values())


def forget_repairs(known: Sequence[Repaired], subjects: Iterable[str]) -> tuple[Repaired, ...]:
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
        if one.subject in wrong and repair_wait_s(one, now) is None
    )
