"""What happens again and again is borne: stalls that end by themselves, a canary that fails now and then, a
ping that alternates, the reads of one image. None of it may keep a node from its mirror.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Failure,
    Mode,
    ModeChanged,
    OriginSeen,
    PingFailed,
    PingOk,
    Pinned,
    Route,
    SentinelClosed,
    Symptom,
    SymptomKind,
    Tick,
)
from agent.health.route import route
from agent.health.state import HealthState, RaiseFence, decayed, is_patient
from tests.unit.health_run import POLICY, REFUSED, SILENT, Run, healthy


def stalled(run: Run, at: float, long_s: float = 2.0) -> Run:
    """A stall from this time on, and the clean canary after it."""
    ended = at + long_s
    while at + POLICY.window_s <= ended:
        run.at(at + POLICY.window_s, PingFailed(at, SILENT, ""))
        at += POLICY.window_s + 0.05
    return run.at(ended, PingOk(ended - 0.01, 0.002), CanaryOk(ended - 0.01, 0.002))


def raised(run: Run) -> int:
    return sum(isinstance(effect, RaiseFence) and effect.tentative for _, effect in run.fences())


@pytest.mark.parametrize("every_s", [30.0, 62.0, 90.0, 140.0, 300.0])
def test_a_mirror_that_stalls_for_two_seconds_again_and_again_is_left_five_times_an_hour_at_most(
    every_s: float,
) -> None:
    run = healthy()
    for number in range(int(3600 / every_s)):
        stalled(run, 10.0 + number * every_s)
    assert 2 <= raised(run) <= 5
    assert run.health_state() is HealthState.HEALTHY


def test_a_mirror_that_stalled_often_and_hangs_is_left_all_the_same_after_six_seconds() -> None:
    run = stalled(stalled(healthy(), 10.0), 40.0)
    assert is_patient(run.state, 60.0, POLICY)
    at, fences = 60.0, raised(run)
    while raised(run) == fences:
        at += 0.65
        run.at(at, PingFailed(at - POLICY.window_s, SILENT, ""))
    assert POLICY.patience_s <= at - 60.0 < POLICY.patience_s + 1.3


@pytest.mark.parametrize(("silent_s", "every_s"), [(5.5, 6.0), (1.5, 1.75)])
def test_a_mirror_that_is_silent_most_of_the_time_is_not_borne(silent_s: float, every_s: float) -> None:
    run, at = stalled(stalled(healthy(), 10.0), 40.0), 60.0
    while run.state.fence is None and at < 200.0:
        stalled(run, at, silent_s)
        at += every_s
    assert at - 60.0 < 60.0


def test_a_stall_that_pings_and_canaries_meet_counts_once() -> None:
    run = stalled(stalled(healthy(), 10.0), 40.0).at(60.6, PingFailed(60.0, SILENT, ""))
    borne = run.state.borne
    assert borne.penalty > 0
    assert run.at(61.2, CanaryFailed(60.0, SILENT, "")).state.borne == borne
    run.at(62.0, PingOk(61.9, 0.001)).at(63.2, CanaryFailed(62.0, SILENT, ""))
    assert run.state.borne.penalty > borne.penalty  # only the data path stalls
    assert route(run.state) is Route.MIRROR


def test_a_mirror_that_stalled_often_and_dies_is_left_at_once() -> None:
    run = stalled(stalled(healthy(), 10.0), 40.0).at(60.0, SentinelClosed("eof"))
    assert route(run.state) is Route.ORIGIN


def test_a_stall_while_a_node_waits_for_its_turn_does_not_begin_the_outage_anew() -> None:
    run = stalled(healthy(), 10.0, 5.0).every(0.25, 15.25, 199.0, "ping", "canary")
    stalled(run, 200.0, 5.0).every(0.25, 205.25, 215.0, "ping", "canary")
    assert run.health_state() is HealthState.PROBATION
    stalled(run, 216.0, 5.0)
    assert run.health_state() is HealthState.PROBATION


def test_one_canary_that_fails_each_five_minutes_fences_once_and_not_288_times_a_day() -> None:
    run = healthy()
    for number in range(288):
        at = 10.0 + number * 300.0
        run.at(at, CanaryFailed(at - 0.1, Failure.STATUS, "HTTP 500")).at(
            at + 0.01, CanaryOk(at + 0.001, 0.002)
        )
    assert raised(run) == 1
    assert at - run.state.canary_borne_at < POLICY.doubt_s  # so it is told


def test_two_canaries_in_succession_fence_however_often_one_alone_was_wrong() -> None:
    run = healthy()
    for at in (10.0, 310.0):
        run.at(at, CanaryFailed(at - 0.1, Failure.STATUS, "")).at(at + 0.01, CanaryOk(at + 0.001, 0.002))
    run.at(610.0, CanaryFailed(609.9, Failure.STATUS, ""))
    assert route(run.state) is Route.MIRROR
    run.at(610.01, CanaryFailed(610.001, Failure.STATUS, ""))
    assert route(run.state) is Route.ORIGIN
    run.at(610.02, CanaryFailed(610.015, Failure.STATUS, ""))
    assert run.health_state() is HealthState.DOWN


def test_where_nydusd_decides_an_alternating_ping_changes_what_is_told_a_few_times_an_hour_at_most() -> None:
    run = healthy().at(1.0, ModeChanged(Mode.NATIVE, "asked for"))
    run.told.clear()
    for beat in range(3600 * 2):
        at = 10.0 + beat / 2
        run.at(at, PingFailed(at - 0.001, REFUSED, ""), CanaryOk(at, 0.002))
        run.at(at + 0.25, PingOk(at + 0.249, 0.001), Tick())
    assert {told for _, _, told in run.told} == {"mirror"}
    assert len(run.told) <= 12


def test_where_nydusd_decides_what_is_told_follows_the_pings_and_nothing_else() -> None:
    run = healthy().at(1.0, ModeChanged(Mode.NATIVE, "asked for"))
    for at in (10.0, 20.0):
        run.at(at, PingFailed(at, REFUSED, ""), PingFailed(at, REFUSED, "")).every(0.5, at, at + 9, "canary")
        assert route(run.at(at + 9, PingOk(at + 9, 0.001)).state) is Route.ORIGIN
        for beat in range(9):
            run.at(at + 9.1 + beat / 10, CanaryFailed(at, Failure.STATUS, ""), PingOk(at + 9, 0.001))
        assert route(run.state) is Route.MIRROR


@pytest.mark.parametrize("route_", list(Route))
def test_what_a_mirror_does_under_a_pin_adds_no_penalty_to_its_return(route_: Route) -> None:
    run = healthy().at(10.0, Pinned(route_, "its restart"))
    for at in (20.0, 40.0, 60.0):  # restarts, and suspicions that were wrong
        run.at(at, SentinelClosed("eof"), PingFailed(at, REFUSED, "")).every(
            0.25, at + 0.25, at + 15.0, "ping", "canary"
        )
    assert decayed(run.state.flap, 80.0, POLICY) == 0


def test_the_reads_of_one_image_move_the_route_for_moments_and_make_no_outage() -> None:
    run = healthy()
    at, away_s = 10.0, 0.0
    while at < 3610.0:
        fenced = run.state.fence is not None
        run.at(at, Tick(), CanaryOk(at, 0.002))
        if int(at * 4) % 4 == 0 and not fenced:
            run.at(at, Symptom(SymptomKind.STATUS, "429", at, alone=True))
            assert run.state.fence is not None
        away_s += 0.25 * (run.state.fence is not None)
        at += 0.25
    assert HealthState.DOWN not in {change.split(" -> ")[1] for change in run.changes()}
    assert away_s < 0.8 * 3600
    assert decayed(run.state.flap, at, POLICY) == 0


@pytest.mark.parametrize("kind", [SymptomKind.STATUS, SymptomKind.REFUSED])
def test_the_reads_of_two_images_and_what_is_lost_at_once_make_an_outage(kind: SymptomKind) -> None:
    run = healthy().at(10.0, Symptom(kind, "", 10.0, alone=True)).at(13.5, CanaryOk(13.4, 0.002), Tick())
    run.at(14.0, Symptom(kind, "", 14.0, alone=kind is SymptomKind.REFUSED))
    assert run.health_state() is HealthState.DOWN


def test_all_that_one_nydusd_tells_is_one_witness_where_no_fence_can_be_up() -> None:
    run = healthy().at(9.0, OriginSeen(False, "refused"))
    run.at(10.0, Symptom(SymptomKind.STATUS, "", 10.0, alone=True))
    run.at(10.1, *[Symptom(SymptomKind.FALLBACK, "", 10.1, alone=True)] * 2)
    assert run.health_state() is HealthState.SUSPECT


def test_one_ping_that_stalls_beside_the_reads_of_one_image_makes_no_outage() -> None:
    run = healthy().at(10.0, Symptom(SymptomKind.STATUS, "", 10.0, alone=True), PingFailed(9.4, SILENT, ""))
    assert run.health_state() is HealthState.SUSPECT
    assert run.at(10.1, SentinelClosed("eof")).health_state() is HealthState.DOWN


def test_the_reads_of_one_image_keep_no_mirror_down_that_is_well_again() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""), OriginSeen(False, ""))
    for beat in range(200):
        at = 10.25 + beat / 4
        run.at(at, PingOk(at, 0.001), CanaryOk(at, 0.002), Symptom(SymptomKind.STATUS, "", at, alone=True))
    assert "probation -> healthy" in run.changes()


def test_a_canary_that_agrees_with_the_reads_of_one_image_makes_an_outage() -> None:
    run = healthy().at(10.0, Symptom(SymptomKind.STATUS, "", 10.0, alone=True))
    run.at(10.1, CanaryFailed(10.05, Failure.STATUS, ""))
    assert run.health_state() is HealthState.DOWN


def test_without_a_good_origin_a_stall_is_borne_as_ever() -> None:
    run = healthy(replace(POLICY, patience_s=0.0)).at(9.0, OriginSeen(False, "refused"))
    stalled(run, 10.0)
    assert run.fences() == []
