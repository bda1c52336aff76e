"""How often a mirror that is well is left: the goal by calculation, and that the simulation may skip what it
skips.
"""

from __future__ import annotations

import math
import random

import pytest

from agent.health.evidence import Probe, Route
from tests.bench import false_switch
from tests.bench.false_switch import MONTH_S, Burst, Loss, policy
from tests.bench.sim.agent import Agent, healthy
from tests.bench.sim.checkers import Checker, lost_alone, lost_in_stalls
from tests.bench.sim.loss import Independent, Stalls

HAPROXY = false_switch.CHECKERS[1]


def test_one_percent_of_lost_probes_causes_less_than_one_false_switch_in_a_hundred_months() -> None:
    assert 0 < false_switch.expected(0.01) < 0.01
    assert false_switch.expected(0.02) > false_switch.expected(0.01) > false_switch.expected(0.001)


@pytest.mark.parametrize("probe", list(Probe))
def test_a_round_that_fails_on_a_mirror_that_is_well_costs_one_short_fence_at_most(probe: Probe) -> None:
    month = false_switch.switches_of_one(probe)
    assert month.switches <= 1
    assert month.outages == 0
    assert month.away_s <= policy(0).tentative_s


def _stepped(p: float, span_s: float) -> int:
    """The switches of a node of which every round is stepped."""
    agent = Agent(policy(0), Independent(p, random.Random(7)), random.Random(7), healthy(policy(0), 0.0), 0.0)
    agent.join()
    agent.run(span_s)
    return sum(route is Route.ORIGIN for _, route in agent.changes)


def test_skipping_the_good_rounds_changes_nothing() -> None:
    p, span_s = 0.35, 8 * 3600.0
    every = _stepped(p, span_s)
    few = [false_switch.month_of_losses(Loss(p), span_s, node).switches for node in range(5)]
    assert every > 20
    assert abs(sum(few) / 5 - every) < 4 * math.sqrt(every)


def test_what_is_drawn_is_what_is_calculated() -> None:
    months = [false_switch.month_of_losses(Loss(0.05), MONTH_S, node) for node in range(20)]
    calculated = 20 * false_switch.expected(0.05)
    assert abs(sum(month.switches for month in months) - calculated) < 4 * math.sqrt(calculated)


def test_long_stalls_are_seen_as_a_false_switch_and_short_ones_are_not() -> None:
    day_s = 86400.0
    assert false_switch.month_of_stalls(Burst(0.05, lost=False), day_s, 0).switches == 0
    assert false_switch.month_of_stalls(Burst(1.0, lost=True), day_s / 24, 0).switches > 0


def test_other_checks_are_counted_as_they_are_calculated() -> None:
    assert HAPROXY.expected(0.01, MONTH_S) == pytest.approx(1.28, abs=0.02)
    assert HAPROXY.expected(0.05, MONTH_S) == pytest.approx(154, rel=0.03)
    nydusd = false_switch.CHECKERS[0]
    assert nydusd.expected(0.01, MONTH_S) == pytest.approx(5130, rel=0.01)
    for checker, p in ((HAPROXY, 0.05), (nydusd, 0.01)):
        counted = checker.switches(lost_alone(checker, p, MONTH_S, random.Random(1)))
        calculated = checker.expected(p, MONTH_S)
        assert abs(counted - calculated) < 4 * math.sqrt(calculated)


def test_a_check_goes_down_after_its_fall_and_up_after_its_rise() -> None:
    check = Checker("", 1.0, 1.0, fall=2, rise=2)
    assert check.switches(iter([1, 3, 5])) == 0
    assert check.switches(iter([1, 2, 3])) == 1
    assert check.switches(iter([1, 2, 4, 5])) == 1  # one success between is not enough to be up again
    assert check.switches(iter([1, 2, 5, 6])) == 2


@pytest.mark.parametrize("lost", [True, False])
def test_stalls_take_their_share_of_the_time(lost: bool) -> None:
    hours, mean_s, timeout_s, share = 100, 0.2, 0.5, 0.01
    check = Checker("", 1.0, timeout_s, fall=1, rise=1)
    long_s = 0.0 if lost else timeout_s
    stalls = Stalls(mean_s, share, lost, long_s, random.Random(3))
    failed = sum(1 for _ in lost_in_stalls(check, stalls, hours * 3600.0))
    expected = share if lost else share * math.exp(-timeout_s / mean_s)
    assert failed / (hours * 3600) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("seen", "bound"), [(0, 3.0), (1, 4.74), (10, 16.96), (1000, 1053.6)])
def test_a_bound_of_a_count_is_that_of_the_poisson_distribution(seen: int, bound: float) -> None:
    assert false_switch.at_most(seen) == pytest.approx(bound, rel=0.002)
