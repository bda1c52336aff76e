"""`make bench-fleet`: a fleet that loses its mirror everywhere at once, and how it comes back. About a
minute.

Method: every node runs the real health machine (tests/bench/sim/agent.py feeds it as the daemon does) with
the default policy and its own return_delay_s, seeded. Times in which nothing can change are jumped over; that
nothing changes is shown by stepping each time. What the nodes read is a model: DEMAND is one container's
start (14.4 MB were measured, in requests of 1 MB), 3 at a time; the server behind (the origin in an outage;
on the return the seeds and the origin behind them, because the first reads are cold there) admits LIMIT
requests a second, a refusal (429) costs 0.2 of one, and nydusd asks again after 0.4 to 1 s.

The ideal staggered return: the nodes go back one by one at equal distances over the window, with the same
reads, and nothing is ever refused. It needs n * reads requests, and its busiest second is the peak that the
others are compared with. Nothing limits an outage's reads (they are blocked; nydusd has no limiter, and
neither have we): they are printed as they are.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from agent.health.evidence import Route
from agent.health.policy import return_delay_s
from agent.health.state import State
from tests.bench.report import Goal, Row, publish, quick, row
from tests.bench.sim import fleet
from tests.bench.sim.fleet import OUTAGE_S, Departure, Fault
from tests.bench.sim.load import Demand, Limit, Load, serve
from tests.bench.sim.spread import each

METHOD = (
    "the real machine per node in virtual time; reads and the server behind are a model (see the "
    "module); seeded"
)
SEED = 20
LIMIT = Limit(3000.0)
DEMAND = Demand(requests=15, in_flight=3, read_s=(0.2, 0.4))
WARM = Demand(requests=15, in_flight=3, read_s=(0.02, 0.04))
HUNGRY = Demand(requests=20, in_flight=3, read_s=(0.2, 0.4))
"""20 reads a node are more than LIMIT admits in the window: the window must fit the fleet."""
BUSY = 0.02
"""The share of a fleet that is just reading, in an ordinary minute."""
NYDUSD_CHECK_S, NYDUSD_TIMEOUT_S = 5.0, 5.0
"""nydusd's check_interval and timeouts in its documented configuration: a read on a hung proxy waits the
timeout out, and so does the check that will notice."""


@dataclass(frozen=True)
class Size:
    """How many nodes, and the window (seconds) over which they return.

    Quick: as many nodes a second as in full.
    """

    nodes: int
    window_s: int


FULL, QUICK = Size(10_000, 60), Size(1_000, 6)


def main() -> int:
    """Simulate and publish."""
    short = quick()
    rows, goals = simulate(QUICK if short else FULL)
    return publish("fleet", METHOD, rows, quick=short, goals=goals)


def simulate(size: Size) -> tuple[list[Row], list[Goal]]:
    """All cases."""
    ids = machine_ids(size.nodes)
    slots = [return_delay_s(name, size.window_s) for name in ids]
    well = fleet.well()
    dead, hung = (
        each(partial(_leave, Fault(refused=refused), well), range(size.nodes)) for refused in (True, False)
    )
    rows = outage_rows(dead, hung)
    returns, goals = return_rows(size, slots, dead)
    restarts, more = restart_rows(size, slots, dead)
    return [*rows, *returns, *restarts, *slot_rows(ids)], [*goals, *more]


def machine_ids(count: int) -> list[str]:
    """Random ones, as systemd makes them (machine-id(5))."""
    rng = random.Random(SEED)
    return [f"{rng.getrandbits(128):032x}" for _ in range(count)]


def _leave(fault: Fault, well: State, node: int) -> Departure:
    return fleet.leave(fault, random.Random(f"{SEED} leave {node}"), well)


# The outage


def outage_rows(dead: Sequence[Departure], hung: Sequence[Departure]) -> list[Row]:
    """The origin when all nodes, or the few that are reading, come at once; and the agents' own questions."""
    rows = [row("outage, dead: route at the origin", [node.left for node in dead], "s")]
    rows += [row("outage, hung: route at the origin", [node.left for node in hung], "s")]
    rng = random.Random(SEED)
    noticed = [rng.uniform(0.0, NYDUSD_CHECK_S) + NYDUSD_TIMEOUT_S for _ in hung]
    few = random.Random(SEED).sample(range(len(hung)), max(1, int(len(hung) * BUSY)))
    for what, nodes in (("all nodes read", range(len(hung))), (f"{BUSY:.0%} of the nodes read", few)):
        left, seen = [hung[node].left for node in nodes], [noticed[node] for node in nodes]
        rows += [
            _outage(
                f"outage, dead, {what}: nydusd alone, or with the agent", len(left), lambda _node, at: at
            ),
            _outage(f"outage, hung, {what}: nydusd alone", len(left), partial(_waits_out, seen)),
            _outage(f"outage, hung, {what}: with the agent", len(left), partial(_is_freed, left)),
        ]
    asked = [at for node in dead for at in node.asked_origin]
    return [*rows, _own("outage, dead: the agents' own questions to the origin", asked)]


def _waits_out(noticed: Sequence[float], node: int, at: float) -> float:
    """nydusd alone: a read begun before its check has noticed waits for its timeout."""
    return at + NYDUSD_TIMEOUT_S if at < noticed[node] else at


def _is_freed(left: Sequence[float], node: int, at: float) -> float:
    """With the agent: the fence frees whatever waits."""
    return max(at, left[node])


def _outage(case: str, nodes: int, stalled: Callable[[int, float], float]) -> Row:
    load = serve([0.0] * nodes, DEMAND, LIMIT, random.Random(SEED), stalled)
    ideal = nodes * DEMAND.requests
    return row(case, load.done, "s to done", extra=_figures(load, max(1.0, min(LIMIT.rate, ideal)), ideal))


def _own(case: str, times: Sequence[float]) -> Row:
    """Requests of the agents themselves."""
    bins = Counter(int(at) for at in times)
    return row(
        case, list(bins.values()), "a second", extra={"peak/s": max(bins.values()), "requests": len(times)}
    )


# The return


def return_rows(
    size: Size, slots: Sequence[float], departed: Sequence[Departure]
) -> tuple[list[Row], list[Goal]]:
    """The ideal, the agent's, and what else could have been chosen."""
    rng = random.Random(SEED)
    jitter = [rng.uniform(0.0, size.window_s) for _ in slots]
    ours, drawn, at_once = (
        each(_come_back, list(zip(range(size.nodes), delays, departed, strict=True)))
        for delays in (slots, jitter, [0.0] * size.nodes)
    )
    even = [OUTAGE_S + node * size.window_s / size.nodes for node in range(size.nodes)]
    rows: list[Row] = []
    goals: list[Goal] = []
    for what, demand in (("", DEMAND), (", reads of 20 to 40 ms", WARM), (", 20 reads a node", HUNGRY)):
        ideal = serve(even, demand, None, random.Random(SEED))
        rows.append(_return(f"return{what}: ideal", even, ideal, ideal))
        load = serve(ours, demand, LIMIT, random.Random(SEED))
        rows.append(_return(f"return{what}: the node's own slot", ours, load, ideal))
        if demand is DEMAND:
            goals = _goals("return", load, ideal)
            for name, times in (("a slot drawn at each return", drawn), ("no stagger", at_once)):
                rows.append(
                    _return(f"return: {name}", times, serve(times, demand, LIMIT, random.Random(SEED)), ideal)
                )
    return rows, goals


def _come_back(node: tuple[int, float, Departure]) -> float:
    number, delay_s, departed = node
    return fleet.come_back(departed.state, delay_s, random.Random(f"{SEED} return {number}"))


def _return(case: str, back: Sequence[float], load: Load, ideal: Load) -> Row:
    """The values are the seconds from the mirror's return until each node's."""
    return row(case, [at - OUTAGE_S for at in back], "s", extra=_figures(load, ideal.peak, ideal.total))


def _figures(load: Load, peak: float, total: float) -> dict[str, float | str]:
    return {
        "peak/s": load.peak,
        "x ideal": round(load.peak / peak, 3),
        "requests": load.total,
        "x needed": round(load.total / total, 3),
        "429 %": round(100 * load.refused / load.total, 1),
    }


def _goals(what: str, load: Load, ideal: Load) -> list[Goal]:
    return [
        Goal(f"{what}: peak, in peaks of the ideal return", load.peak / ideal.peak, 1.2, "x"),
        Goal(f"{what}: requests, in those of the ideal return", load.total / ideal.total, 1.1, "x"),
    ]


# Restarts of all agents


def restart_rows(
    size: Size, slots: Sequence[float], departed: Sequence[Departure]
) -> tuple[list[Row], list[Goal]]:
    """A package upgrade: all agents within the window, beside a mirror that is well, and just as it has come
    back; and all in the same second.
    """
    rng = random.Random(SEED)
    when = [OUTAGE_S + rng.uniform(0.0, size.window_s) for _ in slots]
    numbers = range(size.nodes)
    beside = each(_restart_well, list(zip(numbers, slots, when, strict=True)))
    changes = [float(count) for count, _ in beside]
    rows = [row("restarts beside a mirror that is well: changes of the route", changes, "a node")]
    rows.append(
        _own("… the agents' own questions to the origin", [at for _, asked in beside for at in asked])
    )
    rows.append(_own("… the agents' own Dragonfly tasks (first canary)", when))
    goals = [Goal("restarts beside a mirror that is well: changes of the route", sum(changes), 0.0, "in all")]
    even = [OUTAGE_S + node * size.window_s / size.nodes for node in numbers]
    ideal = serve(even, DEMAND, None, random.Random(SEED))
    untouched = each(_come_back, list(zip(numbers, slots, departed, strict=True)))
    second = [OUTAGE_S + rng.random() for _ in slots]
    for what, starts in (
        ("restarts within the window of the return", when),
        ("restarts in one second of it", second),
    ):
        anew = each(_restart_fenced, list(zip(numbers, slots, starts, strict=True)))
        # Who is back before the restart stays where it is.
        back = [
            early if early < at else late for early, at, late in zip(untouched, starts, anew, strict=True)
        ]
        load = serve(back, DEMAND, LIMIT, random.Random(SEED))
        rows.append(_return(what, back, load, ideal))
        goals += _goals(what, load, ideal)
    return rows, goals


def _restart_fenced(node: tuple[int, float, float]) -> float:
    number, delay_s, at = node
    return fleet.restart_fenced(at, delay_s, random.Random(f"{SEED} restart {number}"))


def _restart_well(node: tuple[int, float, float]) -> tuple[int, tuple[float, ...]]:
    """How often the route changed while the agent found its feet, and when it asked the origin."""
    number, delay_s, at = node
    agent = fleet.restart_well(at, delay_s, random.Random(f"{SEED} well {number}"))
    away = sum(route is Route.ORIGIN for _, route in agent.changes)
    return away, tuple(agent.origin_asked)


# The slots


NAMES = (
    "node-{:05d}",
    "worker{}.example.com",
    "ip-10-0-{}.internal",
    "0123456789abcdef0123456789abcdef node{}",
    "{:032x}",
)
"""Names in sequence, a machine-id that clones share with a name behind it, machine-ids in sequence."""


def slot_rows(ids: Sequence[str]) -> list[Row]:
    """How many nodes share a second of a window of 60 s; beside it what numbers drawn at random give."""
    rng = random.Random(SEED)
    rows = [_slots("slots: random machine-ids", ids)]
    rows += [_slots(f"slots: {form}", [form.format(number) for number in range(len(ids))]) for form in NAMES]
    drawn = [max(Counter(int(rng.random() * 60) for _ in ids).values()) for _ in range(100)]
    return [*rows, row("slots: the fullest second of 100 random draws", drawn, "nodes/s")]


def _slots(case: str, names: Sequence[str]) -> Row:
    counts = Counter(int(return_delay_s(name, 60)) for name in names)
    mean = len(names) / 60
    chi2 = sum((counts[second] - mean) ** 2 / mean for second in range(60))
    values = [counts[second] for second in range(60)]
    extra = {"chi2 (59)": round(chi2, 1), "sd": round(statistics.pstdev(values), 1)}
    return row(case, values, "nodes/s", extra=extra)


if __name__ == "__main__":
    sys.exit(main())
