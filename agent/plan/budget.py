"""How often containerd and the snapshotter may be restarted by us. Pure.

A restart holds new pods and pulls up for seconds and is no remedy for a fault elsewhere, so two rules bound
it:

- *Budget*: at most so many of a unit within an hour, and half of that for what begins by itself, so that a
  loop of repairs leaves something to the person who ends it.
- *Cooldown*: what begins by itself restarts a unit that it has restarted within that hour only when the unit
  has run for a while. By InactiveExitTimestamp and not ActiveEnterTimestamp, which a unit that dies while it
  starts never reaches (kubernetes/node-problem-detector#444: a loop of kills). The first restart of an hour
  does not wait: a node that is set up right after its boot, or after containerd was upgraded, is no loop.

An undo is never refused: to leave a node half changed is worse than one more restart. But it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from agent.durations import in_words
from agent.facts.node import Moment, UnitFact

WINDOW_S = 3600.0
COOLDOWN_S = 120.0
"""node-problem-detector's own (health-checker, --cooldown-time)."""


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
class Allowed:
    """The restart may be made now."""


@dataclass(frozen=True, slots=True)
class NotBefore:
    """It may not yet; in `seconds` it may, if no other comes in between."""

    seconds: float
    reason: str


Judgement: TypeAlias = Allowed | NotBefore


def may_restart(unit: UnitFact, history: Sequence[Restart], now: Moment, policy: RestartBudget) -> Judgement:
    """Whether `unit` (as systemd sees it) may be restarted now, after the restarts in `history` (of any
    unit).
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
    return Allowed()


def kept(history: Sequence[Restart], now: Moment) -> tuple[Restart, ...]:
    """Those that still count."""
    return tuple(one for one in history if one.age_s(now) < WINDOW_S)
