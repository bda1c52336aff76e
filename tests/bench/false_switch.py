"""`make bench-false-switch`: how often a mirror that is well is left, on a path that loses probes.

About five minutes on two processors. A false switch is a change of the route to the origin.

Method: 30 days of a node's life, many nodes, the real health machine and policy fed as the daemon feeds them
(tests/bench/sim/agent.py), seeded. Ten billion rounds cannot be stepped, and need not be: a round that is
answered leaves the machine where it was, but for counters and for windows that forget (stepped and compared
before each jump). So only rounds that fail are drawn, and stepped with all that follows until the machine is
at rest again.

Why that is exact. Independent loss: a round fails when all its attempts are lost, whatever the window, so
failing rounds are independent; the number of good ones between two is geometric, for pings and canaries
apart, and is drawn anew after each trouble, because such processes have no memory. A good round of which some
attempts were lost is late by a few staggers; the window that it moves decides only how long a round takes to
fail. Stalls: they begin as a Poisson process, so long and short ones are independent. A round that meets only
short ones is answered within half of the window (in it, or by the first attempt after it) and moves no
window, because a window is at least twice the slowest answer. All long ones are stepped, with the short ones
around them.

Compared, in the same run: nydusd's own check, HAProxy's default, and a single probe every 250 ms of which
four in succession must fail.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from agent.config.model import HealthConfig
from agent.daemon.probes import ATTEMPTS, stagger_s
from agent.health.evidence import Probe, Route
from agent.health.policy import Policy, return_delay_s
from agent.health.state import HealthState
from tests.bench.report import Goal, Row, publish, quick, row
from tests.bench.sim.agent import WELL_S, Agent, healthy, well
from tests.bench.sim.checkers import Checker, lost_alone, lost_in_stalls
from tests.bench.sim.loss import Independent, Stalls
from tests.bench.sim.spread import each

METHOD = (
    "30 days a node of the real machine; only rounds that fail, or meet a long stall, are stepped (see "
    "the module)"
)
SEED = 4
MONTH_S = 30 * 86400.0
LOSSES = (0.001, 0.01, 0.02, 0.05)
GOAL_LOSS, GOAL = 0.01, 0.01
SHARE = 0.01
"""Of the time is stalled."""
CHECKERS = (
    Checker("nydusd's check (5 s, fall 1)", 5.0, 5.0, 1, 1),
    Checker("HAProxy's default (2 s, fall 3)", 2.0, 2.0, 3, 2),
    Checker("single probe (250 ms, fall 4)", 0.25, 0.25, 4, 1),
)


@dataclass(frozen=True)
class Loss:
    """Independent loss of attempts."""

    p: float

    @property
    def name(self) -> str:
        return f"{self.p:.1%} independent loss"


@dataclass(frozen=True)
class Burst:
    """Stalls, what begins in them lost or late."""

    mean_s: float
    lost: bool

    @property
    def name(self) -> str:
        return f"stalls of {self.mean_s * 1000:.0f} ms, {'lost' if self.lost else 'late'}"


BURSTS = tuple(Burst(mean_s, lost) for lost in (False, True) for mean_s in (0.05, 0.2))


@dataclass(frozen=True)
class Month:
    """What one node saw in 30 days."""

    switches: int
    outages: int
    away_s: float


def policy(node: int) -> Policy:
    """The default configuration's; the slot is as for any node."""
    delay_s = return_delay_s(f"{node:032x}", 60)
    return Policy.of(HealthConfig(), return_delay_s=delay_s, canary=True)


WELL = healthy(policy(0), 0.0)
"""A node that has long been at the mirror when the month begins (its slot is of no account to that)."""


# Independent loss


def month_of_losses(loss: Loss, span_s: float, node: int) -> Month:
    """One node's month (or another span); all that is stepped is trouble and what follows."""
    rng = random.Random(f"{SEED} {loss} {node}")
    mirror = Independent(loss.p, rng)
    agent = Agent(policy(node), mirror, rng, WELL, 0.0)
    seen = _Watch(agent)
    while True:
        due, probe = min((_next_failure(loss.p, probe, agent.policy, rng), probe) for probe in Probe)
        if agent.now + due >= span_s:
            return seen.month()
        agent.skip(agent.now + due, well, probe)
        mirror.doomed = ATTEMPTS
        seen.until_at_rest()


def _next_failure(p: float, probe: Probe, chosen: Policy, rng: random.Random) -> float:
    """Seconds until the next round of this kind fails."""
    rounds = math.log(1 - rng.random()) / math.log1p(-(p**ATTEMPTS))
    return rounds * beat_s(p, probe, chosen)


def beat_s(p: float, probe: Probe, chosen: Policy) -> float:
    """Mean seconds between the beginnings of two rounds that do not fail."""
    weights = [(1 - p) * p**lost for lost in range(ATTEMPTS)]
    window_s = chosen.canary_window_s if probe is Probe.CANARY else chosen.window_s
    answers = [lost * stagger_s(window_s) + WELL_S for lost in range(ATTEMPTS)]
    jitter = [0.9 + byte / 1280 for byte in range(256)]  # as the daemon draws it
    if probe is Probe.CANARY:
        beats = [answer + chosen.canary_interval_s * statistics.mean(jitter) for answer in answers]
    else:
        rest = chosen.interval_s / 4
        beats = [
            statistics.mean(max(chosen.interval_s * j, answer + rest) for j in jitter) for answer in answers
        ]
    return sum(weight * beat for weight, beat in zip(weights, beats, strict=True)) / sum(weights)


def expected(p: float) -> float:
    """False switches of a node in a month by calculation: rounds, times the chance that all attempts are
    lost, times the switches that one failing round causes (stepped).
    """
    chosen = policy(0)
    return sum(
        MONTH_S / beat_s(p, probe, chosen) * p**ATTEMPTS * switches_of_one(probe).switches for probe in Probe
    )


def switches_of_one(probe: Probe) -> Month:
    """What one failing round causes on a node that is at rest."""
    mirror = Independent(0.0, random.Random(SEED), doomed=ATTEMPTS)
    agent = Agent(policy(0), mirror, random.Random(SEED), WELL, 0.0)
    agent.join(probe)
    seen = _Watch(agent)
    seen.until_at_rest()
    if mirror.doomed:
        raise AssertionError(f"{mirror.doomed} attempts of the round were not made")
    return seen.month()


# Stalls


def month_of_stalls(burst: Burst, span_s: float, node: int) -> Month:
    """One node's month (or another span); all long stalls are stepped."""
    rng = random.Random(f"{SEED} {burst} {node}")
    chosen = policy(node)
    answered_in_s = stagger_s(chosen.window_s) if burst.lost else 0.0
    long_s = chosen.window_s / chosen.window_factor - answered_in_s
    mirror = Stalls(burst.mean_s, SHARE, burst.lost, long_s, rng)
    agent = Agent(chosen, mirror, rng, WELL, 0.0)
    seen = _Watch(agent)
    agent.join()
    lead_s = chosen.canary_window_s
    while True:
        due = mirror.long.begins - lead_s
        if due >= span_s:
            return seen.month()
        if due > agent.now:
            agent.skip(due, well)
            mirror.look_from(due)
        agent.run(mirror.long.ends + lead_s)
        seen.until_at_rest()


class _Watch:
    """Counts what an agent does, from here on."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._outages = 0

    def until_at_rest(self) -> None:
        """Run until a quiet time would change nothing."""
        agent = self._agent
        while True:
            agent.run(max(agent.now + 1.0, agent.open_until))
            waits = agent.open_until > agent.now or agent.state.health_state is not HealthState.HEALTHY
            if not waits and not agent.moved_by(agent.now, well):
                return

    def month(self) -> Month:
        """The sum."""
        changes = self._agent.changes
        away_s = sum(at if route is Route.MIRROR else -at for at, route in changes)
        return Month(sum(route is Route.ORIGIN for _, route in changes), self._agent.outages, away_s)


# The table


@dataclass(frozen=True)
class Size:
    """How many nodes are simulated for each kind of case: stalls cost the more the longer they are."""

    losses: int
    stalls: tuple[int, ...]
    """One number for each of BURSTS."""
    others: int


FULL, QUICK = Size(1000, (100, 4, 20, 4), 20), Size(1000, (2, 0, 1, 0), 1)


def main() -> int:
    """Simulate and publish."""
    short = quick()
    rows, goals = simulate(QUICK if short else FULL)
    return publish("false-switch", METHOD, rows, quick=short, goals=goals)


def simulate(size: Size) -> tuple[list[Row], list[Goal]]:
    """All cases."""
    rows: list[Row] = []
    goals: list[Goal] = []
    for loss in map(Loss, LOSSES):
        months = each(partial(month_of_losses, loss, MONTH_S), range(size.losses))
        rows.append(_ours(loss.name, months, expected(loss.p)))
        if loss.p == GOAL_LOSS:
            goals = _goals(months)
    for burst, nodes in zip(BURSTS, size.stalls, strict=True):
        if nodes:
            months = each(partial(month_of_stalls, burst, MONTH_S), range(nodes), worth_it=2)
            rows.append(_ours(burst.name, months, None))
    return [*rows, *others(size.others)], goals


def _ours(name: str, months: Sequence[Month], calculated: float | None) -> Row:
    away_s = statistics.mean(month.away_s for month in months)
    outages = sum(month.outages for month in months) / len(months)
    more = {"outages": outages, "s at origin": away_s}
    return _row(f"agent: {name}", [month.switches for month in months], calculated, more)


def _row(case: str, counts: Sequence[int], calculated: float | None, more: dict[str, float]) -> Row:
    extra: dict[str, float | str] = {"seen": sum(counts), "a month": sum(counts) / len(counts)}
    extra["95 % at most"] = at_most(sum(counts)) / len(counts)
    if calculated is not None:
        extra["calculated"] = calculated
    return row(case, counts, "switches", extra={**extra, **more})


def _goals(months: Sequence[Month]) -> list[Goal]:
    seen = at_most(sum(month.switches for month in months)) / len(months)
    return [
        Goal(
            f"false switches per node and month at {GOAL_LOSS:.0%} loss, calculated",
            expected(GOAL_LOSS),
            GOAL,
            "",
        ),
        Goal(f"the same of {len(months)} nodes, with 95 % confidence", seen, GOAL, ""),
    ]


def at_most(seen: int) -> float:
    """The largest mean of a Poisson count that gives so few with a chance of 5 % (0 seen: 3, the rule of
    three).
    """
    low, high = float(seen), 2.0 * seen + 10.0
    for _ in range(60):
        middle = (low + high) / 2
        terms = (math.exp(n * math.log(middle) - middle - math.lgamma(n + 1)) for n in range(seen + 1))
        low, high = (middle, high) if math.fsum(terms) > 0.05 else (low, middle)
    return high


def others(nodes: int) -> list[Row]:
    """The same for what is compared with."""
    rows: list[Row] = []
    for loss in LOSSES:
        for checker in CHECKERS:
            counts = each(partial(_checked_alone, checker, loss), range(nodes), worth_it=2)
            rows.append(
                _row(f"{checker.name}: {Loss(loss).name}", counts, checker.expected(loss, MONTH_S), {})
            )
    for burst in BURSTS:
        for checker in CHECKERS:
            counts = each(partial(_checked_in_stalls, checker, burst), range(nodes), worth_it=2)
            rows.append(_row(f"{checker.name}: {burst.name}", counts, None, {}))
    return rows


def _checked_alone(checker: Checker, p: float, node: int) -> int:
    return checker.switches(lost_alone(checker, p, MONTH_S, random.Random(f"{SEED} {checker} {p} {node}")))


def _checked_in_stalls(checker: Checker, burst: Burst, node: int) -> int:
    rng = random.Random(f"{SEED} {checker} {burst} {node}")
    stalls = Stalls(burst.mean_s, SHARE, burst.lost, 0.0 if burst.lost else checker.timeout_s, rng)
    return checker.switches(lost_in_stalls(checker, stalls, MONTH_S))


if __name__ == "__main__":
    sys.exit(main())
