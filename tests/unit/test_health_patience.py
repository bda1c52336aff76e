"""Windows that adapt to the mirror's honest latency."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.health.evidence import CanaryFailed, CanaryOk, PingFailed, PingOk, Probe, Tick
from agent.health.policy import Policy
from agent.health.state import (
    HealthState,
    Pace,
    State,
    canary_window_s,
    late,
    learned,
    ping_window_s,
    silence_s,
    tentative_s,
)
from tests.unit.health_run import POLICY, SILENT, Run, healthy

FLOOR_S = POLICY.window_s
CAP_S = POLICY.window_cap_s


def window(run: Run) -> float:
    return ping_window_s(run.state, POLICY)


def test_a_quick_mirror_is_not_waited_for_longer_than_the_floor() -> None:
    run = healthy().every(0.25, 1, 60, "ping", "canary")
    assert (window(run), canary_window_s(run.state, POLICY)) == (0.6, 1.2)
    assert (tentative_s(run.state, POLICY), silence_s(run.state, POLICY)) == (3.0, 3.0)


def test_a_window_leaves_room_for_twice_the_slowest_answer_of_late() -> None:
    run = healthy().at(10.0, PingOk(9.5, 0.5)).at(10.3, PingOk(10.299, 0.001))
    assert window(run) == pytest.approx(1.0, abs=0.01)
    assert canary_window_s(run.state, POLICY) == 1.2


def test_a_loaded_data_path_gets_its_time_and_no_suspicion_ends_before_two_rounds_of_it() -> None:
    run = healthy().at(10.0, CanaryOk(8.9, 1.1))
    assert canary_window_s(run.state, POLICY) == pytest.approx(2.2)
    assert tentative_s(run.state, POLICY) == pytest.approx(3.0 + 2 * 1.0)


def test_what_was_learned_is_forgotten_within_minutes() -> None:
    run = healthy().at(10.0, PingOk(9.4, 0.6))
    assert window(run) == pytest.approx(1.2)
    run.every(0.25, 10.25, 130.0, "ping")
    assert window(run) == pytest.approx(0.6, abs=0.01)


def test_a_mirror_that_was_frozen_once_is_waited_for_no_longer_afterwards() -> None:
    run = healthy().at(10.6, PingFailed(10.0, SILENT, ""))
    # Thawed: all that waited is answered.
    run.at(12.0, PingOk(10.0, 2.0), PingOk(10.1, 1.9), PingOk(10.7, 1.3))
    assert window(run) == CAP_S
    run.at(12.1, PingOk(12.099, 0.001))
    assert window(run) == FLOOR_S


@pytest.mark.parametrize("latency_s", [0.7, 1.4, 2.5, 2.9])
def test_a_mirror_that_becomes_slow_at_once_costs_one_tentative_fence_and_is_then_waited_for(
    latency_s: float,
) -> None:
    run = healthy()
    slow_for(run, 10.0, 120.0, latency_s)
    assert run.changes() == ["healthy -> suspect", "suspect -> healthy"]
    assert latency_s < window(run) <= CAP_S


def test_a_mirror_slower_than_the_cap_is_down() -> None:
    run = healthy()
    slow_for(run, 10.0, 40.0, 60.0)
    assert run.health_state() is HealthState.DOWN


def test_late_answers_now_and_then_are_learned_too() -> None:
    run = healthy()
    for start in (100.0, 130.0):
        run.at(start + 0.9, PingOk(start, 0.9)).every(0.25, start + 1, start + 5, "ping")
    assert window(run) == pytest.approx(1.8, abs=0.1)


def test_late_answers_far_from_each_other_are_two_hiccups() -> None:
    run = healthy()
    for start in (100.0, 190.0):
        run.at(start + 0.9, PingOk(start, 0.9)).every(0.25, start + 1, start + 5, "ping")
    assert window(run) == FLOOR_S


def test_a_late_answer_is_life_but_no_success() -> None:
    run = healthy().at(10.6, PingFailed(10.0, SILENT, "")).at(10.7, PingOk(10.0, 0.7))
    assert (run.state.ping_ok, run.state.ping_soft, run.state.oks) == (True, 0, 0)
    run = healthy().at(11.3, CanaryFailed(10.0, SILENT, "")).at(11.5, CanaryOk(10.0, 1.5))
    assert (run.state.canary_soft, run.state.canary_oks) == (0, 0)


def test_an_old_answer_does_not_hide_a_younger_one() -> None:
    run = healthy().at(12.0, CanaryOk(11.9, 0.1), CanaryOk(10.0, 2.0))
    assert run.state.canary_ok == 11.9


def test_a_configured_window_above_the_cap_stays_as_it_is() -> None:
    policy = replace(POLICY, window_s=5.0, canary_window_s=10.0)
    run = healthy(policy).at(20.0, PingOk(16.0, 4.0))
    assert (ping_window_s(run.state, policy), canary_window_s(run.state, policy)) == (5.0, 10.0)
    assert silence_s(run.state, policy) == 10.0


answers = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.one_of(st.floats(0.0, 4.0), st.floats(0.0, 0.3))),
    min_size=1,
    max_size=40,
)


@given(answers)
def test_whatever_was_seen_a_window_lies_between_its_floor_and_the_cap_and_covers_what_came_in_time(
    seen: list[tuple[float, float]],
) -> None:
    run, now = healthy(), 0.0
    for gap, latency_s in seen:
        now += gap
        in_time = not late(run.state.ping_pace, now - latency_s, latency_s, FLOOR_S, POLICY)
        run.at(now, PingOk(now - latency_s, latency_s))
        assert FLOOR_S <= window(run) <= CAP_S
        assert latency_s <= window(run) or not in_time
    run.every(60.0, now + 61, now + 900, "ping")
    assert window(run) == FLOOR_S


@given(answers)
def test_what_an_answer_that_cannot_widen_the_window_would_have_taught_makes_no_difference(
    seen: list[tuple[float, float]],
) -> None:
    pace = taught = Pace()
    now = 0.0
    for gap, latency_s in seen:
        now += gap
        answer = (now - latency_s, latency_s)
        assert late(pace, *answer, FLOOR_S, POLICY) == late(taught, *answer, FLOOR_S, POLICY)
        before, pace = pace, learned(pace, *answer, now, FLOOR_S, POLICY)
        if pace is before:
            slowest_s = taught.slowest_s * 0.5 ** (min(now - taught.at, 1e9) / POLICY.window_half_life_s)
            taught = replace(taught, slowest_s=max(slowest_s, latency_s), at=now)
        else:
            taught = learned(taught, *answer, now, FLOOR_S, POLICY)
        windows = [ping_window_s(State(ping_pace=one), POLICY) for one in (pace, taught)]
        assert windows[0] == pytest.approx(windows[1])


@pytest.mark.parametrize("latencies", [(2.5, 0.9), (0.9, 2.5)])
def test_the_lesser_of_two_late_answers_is_learned_and_the_last_one_is_waited_for(
    latencies: tuple[float, float],
) -> None:
    policy, pace = Policy(), Pace()
    for start, latency_s in zip((10.0, 20.0), latencies, strict=True):
        # In good time: the doubt is over.
        pace = learned(pace, start + 5, 0.001, start + 5.001, FLOOR_S, policy)
        pace = learned(pace, start + 6, latency_s, start + 6 + latency_s, FLOOR_S, policy)
    assert pace.slowest_s == 0.9
    assert ping_window_s(State(ping_pace=pace), policy) == min(2 * latencies[1], CAP_S)


def slow_for(run: Run, start: float, end: float, latency_s: float) -> None:
    """Probes as the daemon makes them, of a mirror that answers everything after `latency_s`: a round is lost
    when its window ends, and its answer is told all the same when it comes within the cap.
    """
    due: list[tuple[float, Probe, str, float]] = [(start, probe, "begin", start) for probe in Probe]
    while due and due[0][0] < end:
        now, probe, what, began = due.pop(0)
        ping = probe is Probe.PING
        if what == "begin":
            window_s = window(run) if ping else canary_window_s(run.state, POLICY)
            if latency_s > window_s:
                due.append((now + window_s, probe, "lost", now))
            if latency_s <= max(window_s, CAP_S):
                due.append((now + latency_s, probe, "answered", now))
            rest_s = 0.25 if ping or run.health_state() is HealthState.SUSPECT else 1.0
            due.append((now + min(latency_s, window_s) + rest_s, probe, "begin", 0.0))
        elif what == "lost":
            run.at(now, PingFailed(began, SILENT, "") if ping else CanaryFailed(began, SILENT, ""))
        else:
            run.at(now, PingOk(began, latency_s) if ping else CanaryOk(began, latency_s))
        run.at(now, Tick())
        due.sort()
