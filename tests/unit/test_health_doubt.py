"""Who raised a suspicion that was refuted is believed less, and what then speaks for the mirror."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Failure,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    SentinelClosed,
    Tick,
)
from agent.health.state import AskCanary, AskOwner, HealthState
from tests.unit.health_run import FENCE, GOOD, POLICY, REFUSED, SILENT, STATUS, Run, healthy

# The ping port alone


def test_a_ping_port_that_fails_while_the_data_path_works_does_not_move_the_route() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.01, CanaryOk(10.001, 0.002))
    for at in range(11, 200):
        run.at(float(at), PingFailed(float(at), REFUSED, ""), CanaryOk(float(at), 0.002), Tick())
    assert run.changes() == ["healthy -> suspect", "suspect -> healthy"]
    assert run.state.ping_refuted
    run.at(200.0, CanaryFailed(200.0, REFUSED, "")).at(200.1, CanaryFailed(200.1, REFUSED, ""))
    assert run.health_state() is HealthState.DOWN


def test_a_ping_port_that_comes_and_goes_is_fenced_for_once_in_ten_minutes() -> None:
    run = healthy()
    for at in range(10, 600, 2):
        run.at(float(at), PingFailed(float(at), REFUSED, "")).at(at + 0.01, CanaryOk(at + 0.005, 0.002))
        run.at(at + 1.0, PingOk(at + 1.0, 0.001), CanaryOk(at + 1.0, 0.001))
    assert len(run.fences()) == 2
    run.at(700.0, CanaryOk(699.9, 0.001), PingFailed(700.0, REFUSED, ""))
    assert run.health_state() is HealthState.SUSPECT


def test_a_ping_port_that_is_dead_asks_for_no_canary_with_each_ping() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, ""))
    run.at(10.01, CanaryOk(10.001, 0.002), PingOk(10.01, 0.001))
    run.at(20.0, CanaryOk(19.9, 0.002), PingFailed(20.0, REFUSED, ""))
    assert run.asked(20.0) == [AskCanary(), AskOwner()]
    run.at(20.01, CanaryOk(20.005, 0.002)).at(20.25, PingFailed(20.25, REFUSED, ""))
    assert run.state.ping_refuted
    assert run.asked(20.25) == []


def test_pings_count_again_where_no_canary_comes_back_that_could_speak_for_the_mirror() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.01, CanaryOk(10.001, 0.002))
    run.at(11.0, PingFailed(11.0, REFUSED, ""))
    assert run.health_state() is HealthState.HEALTHY
    run.at(20.0, PingFailed(20.0, REFUSED, ""))
    assert run.health_state() is HealthState.SUSPECT
    run.every(0.25, 20.25, 23.25, "tick")
    assert run.told[-1] == (23.0, "suspect -> down", "origin")


def test_rare_canaries_speak_for_longer() -> None:
    run = healthy(replace(POLICY, vouch_s=70.0)).at(10.0, PingFailed(10.0, REFUSED, ""))
    run.at(10.5, CanaryOk(10.2, 0.3))
    for at in range(11, 600):
        run.at(float(at), PingFailed(float(at), REFUSED, ""), *([CanaryOk(at, 0.3)] if at % 60 == 0 else []))
    assert run.changes() == ["healthy -> suspect", "suspect -> healthy"]


def test_pings_that_fail_need_the_data_path_to_make_an_outage() -> None:
    run = healthy()
    for number in range(4):
        run.at(10.0 + number / 4, PingFailed(10.0 + number / 4, Failure.STATUS, "HTTP 404"))
    assert run.health_state() is HealthState.SUSPECT
    run.at(10.9, CanaryOk(10.0, 0.9))  # a slow data path, but a good one
    assert run.health_state() is HealthState.HEALTHY


def test_slow_canaries_speak_for_as_long_as_two_of_them_take() -> None:
    run = healthy().at(10.0, CanaryOk(8.9, 1.1))
    run.at(11.0, PingFailed(11.0, REFUSED, ""))
    run.at(11.1, CanaryOk(11.05, 0.05))
    run.at(16.0, PingFailed(16.0, REFUSED, ""))
    # 4.95 s after the last clean one began: 3.4 s, and twice the second that it grew by.
    assert run.state.ping_refuted
    run.at(17.0, PingFailed(17.0, REFUSED, ""))
    assert run.health_state() is HealthState.SUSPECT


def test_a_ping_that_failed_once_and_nothing_after_it_is_no_outage() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.2, PingOk(10.2, 0.001)).at(13.0, Tick())
    assert run.told[-1] == (13.0, "suspect -> healthy", "mirror")


def test_after_an_outage_pings_that_were_doubted_are_believed_again() -> None:
    run = healthy(replace(POLICY, return_delay_s=0.0)).at(10.0, PingFailed(10.0, REFUSED, ""))
    run.at(10.1, CanaryOk(10.05, 0.001), PingOk(10.06, 0.001)).at(
        20.0, SentinelClosed("eof"), CanaryFailed(20, REFUSED, "")
    )
    run.every(0.25, 20.25, 40.0, "ping", "canary")
    assert run.health_state() is HealthState.HEALTHY
    assert run.at(40.1, PingFailed(40.1, REFUSED, "")).health_state() is HealthState.SUSPECT


def test_canaries_from_before_an_outage_say_nothing_about_pings_that_fail_after_it() -> None:
    run = healthy().every(0.25, 1, 10, "ping", "canary")
    run.at(10.1, SentinelClosed("eof"), PingFailed(10.1, REFUSED, ""))
    assert run.health_state() is HealthState.DOWN
    run.at(10.35, PingFailed(10.35, REFUSED, ""))
    assert (run.state.ping_refuted, run.state.oks) == (False, 0)


@pytest.mark.parametrize(("fall", "rounds"), [(1, 1), (2, 2), (5, 2)])
def test_a_suspicion_that_nothing_has_answered_ends_as_an_outage(fall: int, rounds: int) -> None:
    run = healthy(replace(POLICY, fall=fall))
    for number in range(rounds):
        run.at(10.0 + number / 2, PingFailed(9.4 + number / 2, SILENT, ""))
    run.at(12.9, Tick())
    assert run.health_state() is HealthState.SUSPECT
    assert run.at(13.0, Tick()).health_state() is HealthState.DOWN


def test_a_mirror_whose_first_answer_refuted_a_suspicion_was_well() -> None:
    run = Run(POLICY, FENCE, GOOD).at(1.0, SentinelClosed("eof")).at(1.1, CanaryOk(1.05, 0.001))
    assert run.health_state() is HealthState.HEALTHY
    assert run.state.was_well


def test_a_canarys_silence_that_another_canary_refuted_must_last_too() -> None:
    run = healthy().at(10.0, CanaryFailed(8.8, SILENT, "")).at(10.1, CanaryOk(10.05, 0.002))
    run.at(12.3, CanaryFailed(11.1, SILENT, ""))
    assert run.health_state() is HealthState.HEALTHY
    assert run.at(13.5, CanaryFailed(12.3, SILENT, "")).health_state() is HealthState.SUSPECT


def test_canaries_are_counted_where_the_ping_port_is_known_to_fail() -> None:
    run = healthy().at(8.0, PingFailed(8.0, REFUSED, "")).at(8.1, CanaryOk(8.05, 0.002))
    run.at(10.0, CanaryFailed(10.0, REFUSED, ""), CanaryFailed(10.0, REFUSED, ""))
    for at in range(11, 20):
        run.at(float(at), CanaryOk(float(at), 0.002))
    assert (run.health_state(), run.state.oks) == (HealthState.DOWN, 9)
    assert run.at(20.0, CanaryOk(20.0, 0.002)).health_state() is HealthState.PROBATION


@pytest.mark.parametrize(("at", "then"), [(100.0, HealthState.HEALTHY), (700.0, HealthState.SUSPECT)])
def test_a_doubt_stays_beside_another_one_and_ends_in_its_time(at: float, then: HealthState) -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, ""))
    run.at(10.1, CanaryOk(10.05, 0.001), PingOk(10.1, 0.001))
    run.at(at, OwnerSeen(Owner.NONE, "")).at(at + 0.1, CanaryOk(at + 0.05, 0.001))
    assert run.at(at + 1, PingFailed(at + 1, REFUSED, "")).health_state() is then


def test_a_refuted_ping_does_not_make_the_next_symptom_an_outage() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.1, CanaryOk(10.05, 0.001))
    assert run.symptom(20.0, STATUS).health_state() is HealthState.SUSPECT
