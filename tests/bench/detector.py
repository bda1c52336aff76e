"""`make bench-detector`: the failure detector in closed loop with mirrors, origins and restarts gone wrong.

Hours of CPU in full (100,000 hours of nodes' lives), a minute in the quick form.

Method: each node is the real health machine with the real memory of a restart, fed as the daemon feeds it
(tests/bench/sim/closed.py), in a world of faults drawn from a seed. What must hold is checked at each event.
Times in which nothing would change are jumped over, which is tried out before each jump.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from agent.config.model import HealthConfig
from agent.daemon.canaries import registry_policy
from agent.health.policy import Policy, return_delay_s
from tests.bench.report import Goal, Row, publish, quick, row
from tests.bench.sim.closed import Node, Seen
from tests.bench.sim.spread import each
from tests.bench.sim.world import Fault, Outage, World, Wrong

METHOD = "the real machine in closed loop with worlds of faults drawn from seeds (see the module)"
SEED = 15
HOUR_S = 3600.0
SPAN_S = 4 * HOUR_S
WARM_S = 60.0
FULL_HOURS, QUICK_HOURS = 100_000, 200
STALLS = tuple(
    (long_s, every_s) for long_s in (0.7, 2.0, 5.0) for every_s in (30.0, 62.0, 90.0, 140.0, 300.0)
)
FENCES_AN_HOUR, AWAY = 6, 0.10

Faults = tuple[Fault, ...]


def policy(rng: random.Random, *, local: bool = True) -> Policy:
    """The default configuration's, of a node with any place in the fleet's return."""
    delay_s = return_delay_s(f"{rng.getrandbits(128):032x}", 60)
    chosen = Policy.of(HealthConfig(), return_delay_s=delay_s, canary=True, loopback=local)
    return chosen if local else registry_policy(chosen)


# Faults


def apart(
    rng: random.Random, span_s: float, mean_s: float, last: Callable[[], tuple[float, Fault]]
) -> Faults:
    """Faults one after the other, with pauses between them."""
    found: list[Fault] = []
    at = WARM_S + rng.expovariate(1 / mean_s)
    while at < span_s:
        long_s, fault = last()
        found.append(replace(fault, begins=at, ends=at + long_s))
        at += long_s + 1.0 + rng.expovariate(1 / mean_s)
    return tuple(found)


def periodic(long_s: float, every_s: float, wrong: Wrong, span_s: float) -> Faults:
    """The same stall again and again."""
    count = int((span_s - WARM_S) / every_s)
    times = (WARM_S + number * every_s for number in range(count))
    return tuple(Fault(at, at + long_s, wrong) for at in times)


def any_fault(rng: random.Random, wrongs: tuple[Wrong, ...]) -> tuple[float, Fault]:
    """One of any kind, length and share."""
    wrong = rng.choice(wrongs)
    long_s = rng.choice((0.3, 1.0, 2.0, 5.0, 20.0, 120.0, 900.0)) * rng.uniform(0.5, 1.5)
    share = 1.0 if wrong in (Wrong.DEAD, Wrong.SLOW) else rng.choice((0.01, 0.1, 0.5, 1.0, 1.0, 1.0))
    if share < 1:
        long_s = min(long_s, 120.0)
    return long_s, Fault(0.0, 0.0, wrong, share, rng.choice((0.5, 1.0, 2.0, 2.9)))


def outages(rng: random.Random, faults: Faults, span_s: float) -> tuple[Outage, ...]:
    """Of one registry: some with the mirror's faults, some just after, some at any time."""
    times = [fault.begins + rng.choice((0.0, 0.5, 3.0, 30.0)) for fault in faults if rng.random() < 0.2]
    times += [rng.uniform(WARM_S, span_s) for _ in range(2)]
    found: list[Outage] = []
    for at in sorted(times):
        if not found or at > found[-1].ends + 1.0:
            found.append(Outage(at, at + rng.choice((1.0, 15.0, 60.0, 600.0)), rng.random() < 0.5))
    return tuple(found)


# Nodes' lives


def life(number: int, *, wrongs: tuple[Wrong, ...], local: bool, memory: str) -> Seen:
    """One node's: faults of any kind, registries that fail, restarts of the agent."""
    seed = f"{SEED} life {number} {local}"
    rng = random.Random(seed)
    mean_s = rng.choice((30.0, 120.0, 600.0, 3600.0, 7200.0))
    faults = apart(rng, SPAN_S, mean_s, lambda: any_fault(rng, wrongs))
    registries = tuple(outages(rng, faults, SPAN_S) for _ in range(rng.choice((1, 1, 2))))
    if len(registries) == 2 and rng.random() < 0.5:
        registries = (registries[0], (Outage(0.0, SPAN_S, True),))
    restarts = tuple(sorted(rng.uniform(WARM_S, SPAN_S) for _ in range(rng.choice((0, 1, 4)))))
    world = World(faults, registries, rng, local=local)
    node = Node(
        policy(rng, local=local), world, rng, seed, f"{memory}/{number}", reads_s=rng.choice((0.1, 1.0))
    )
    return node.live(SPAN_S, restarts)


def stalled(number: int, *, long_s: float, every_s: float, wrong: Wrong, memory: str) -> Seen:
    """One node's life at a mirror that stalls again and again."""
    seed = f"{SEED} {wrong.name} {long_s:g} s every {every_s:g} s, node {number}"
    rng = random.Random(seed)
    world = World(periodic(long_s, every_s, wrong, SPAN_S), ((),), rng)
    return Node(policy(rng), world, rng, seed, f"{memory}/{number}").live(SPAN_S)


REMOTE = (Wrong.DEAD, Wrong.STALLS, Wrong.HANGS, Wrong.REFUSES_READS, Wrong.PING_FAILS, Wrong.SLOW)


def lives(count: int, memory: str) -> Iterator[tuple[str, Seen]]:
    """What nodes in worlds of any faults have seen."""
    cases = (("any faults, mirror here", tuple(Wrong), True), ("any faults, mirror elsewhere", REMOTE, False))
    for name, wrongs, local in cases:
        share = count if local else count // 4
        yield name, _sum(partial(life, wrongs=wrongs, local=local, memory=memory), share)


def stalls(count: int, memory: str) -> Iterator[tuple[str, Seen]]:
    """The periodic patterns."""
    for wrong in (Wrong.STALLS, Wrong.HANGS):
        for long_s, every_s in STALLS:
            name = f"{long_s:g} s every {every_s:g} s, {'late' if wrong is Wrong.STALLS else 'lost'}"
            run = partial(stalled, long_s=long_s, every_s=every_s, wrong=wrong, memory=memory)
            yield name, _sum(run, count)


def _sum(run: Callable[[int], Seen], count: int) -> Seen:
    total = Seen()
    worst: list[float] = []
    for seen in each(run, range(count), worth_it=8):
        total.add(seen)
        worst = max(worst, seen.fences, key=lambda fences: Seen(fences=fences).most_an_hour)
    total.fences = worst
    return total


def main() -> int:
    """Simulate and publish."""
    short = quick()
    hours = QUICK_HOURS if short else FULL_HOURS
    rows: list[Row] = []
    goals: list[Goal] = []
    total = Seen()
    each_s = SPAN_S / HOUR_S
    with tempfile.TemporaryDirectory() as memory:
        for name, seen in stalls(1 if short else 40, memory):
            away = seen.away_s / (seen.hours * HOUR_S)
            extra: dict[str, float | str] = {"hours": seen.hours, "away": f"{away:.1%}"}
            rows.append(row(name, [float(seen.most_an_hour)], "fences in the worst hour", extra=extra))
            goals += [
                Goal(f"fences in an hour: {name}", seen.most_an_hour, FENCES_AN_HOUR, ""),
                Goal(f"share of the time away: {name}", away, AWAY, ""),
            ]
            total.add(seen)
        left = max(1, int((hours - total.hours) / each_s * 0.8))
        for name, seen in lives(left, memory):
            extra = {
                "hours": seen.hours, "restarts": seen.restarts, "predictions": seen.predictions,
                "away": f"{seen.away_s / (seen.hours * HOUR_S):.1%}",
            }  # fmt: skip
            found = sum(seen.violations.values())
            rows.append(row(name, [float(found)], "violations", errors=found, extra=extra))
            total.add(seen)
    for told in total.told:
        print(told)
    for what, count in total.violations.items():
        print(f"{count} times: {what}")
    goals.append(Goal("violations", sum(total.violations.values()), 0, ""))
    a_prediction_h = total.hours / max(1, total.predictions)
    goals.append(Goal("hours for one return that was predicted", a_prediction_h, 2.0, "h"))
    goals.append(Goal("hours short of what was asked for", max(0.0, hours - total.hours), 0.05 * hours, "h"))
    print(f"{total.hours:,.0f} hours simulated")
    return publish("detector", METHOD, rows, quick=short, goals=goals)


if __name__ == "__main__":
    sys.exit(main())
