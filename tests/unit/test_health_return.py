"""The way back to the mirror, and what a mirror costs that fails again and again."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.model import HealthConfig
from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    ClockJump,
    Failure,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    SentinelClosed,
)
from agent.health.policy import Policy, return_delay_s
from agent.health.state import HealthState, LiftFence, RaiseFence, held_s
from agent.node.machine import node_identity
from tests.unit.health_run import FENCE, GOOD, POLICY, REFUSED, Run, allowed_fences, healthy

AT_ONCE = replace(POLICY, return_delay_s=0.0)


def dead(policy: Policy = POLICY) -> Run:
    """Down since 10 s."""
    run = healthy(policy).at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    assert run.health_state() is HealthState.DOWN
    return run


def test_a_cold_node_uses_the_mirror_after_one_answer_and_one_canary() -> None:
    run = Run(POLICY, FENCE, GOOD).at(1.0, PingOk(0.9, 0.001)).at(1.5, CanaryOk(1.4, 0.002))
    assert run.told == [(0.0, "unknown -> unknown", "mirror"), (1.5, "unknown -> healthy", "mirror")]
    assert run.causes == ["mode", "first"]
    assert run.state.reason == "a ping and a canary were answered"
    assert run.done == []


def test_a_node_that_its_mirror_cannot_reach_uses_it_after_one_answer() -> None:
    run = Run(replace(POLICY, canary=False), FENCE, GOOD).at(1.0, PingOk(0.9, 0.001))
    assert run.state.reason == "a ping was answered"


def test_an_answer_without_a_canary_is_not_enough_to_call_the_mirror_healthy() -> None:
    assert Run(POLICY, FENCE, GOOD).every(0.25, 1, 60, "ping", "tick").health_state() is HealthState.UNKNOWN


def test_a_mirror_that_was_never_well_is_used_as_soon_as_it_answers() -> None:
    run = Run(POLICY, FENCE, GOOD).at(1.0, PingFailed(0.9, REFUSED, ""), CanaryFailed(0.9, REFUSED, ""))
    run.at(4.0, PingOk(3.9, 0.001)).at(4.1, CanaryOk(4.0, 0.002))
    assert run.told[-1] == (4.1, "down -> healthy", "mirror")
    assert run.state.flap.penalty == 0


def test_the_way_back_takes_successes_dwell_a_canary_and_this_nodes_slot() -> None:
    run = dead().every(0.25, 10.25, 60, "ping", "canary", "tick")
    assert run.told == [
        (10.0, "healthy -> suspect", "origin"),
        (10.0, "suspect -> down", "origin"),
        (15.0, "down -> probation", "origin"),
        (35.0, "probation -> healthy", "mirror"),
    ]
    assert run.causes == ["closed", "refused", "recovered", "recovered"]


def test_the_rise_count_is_waited_for_where_it_takes_longer_than_the_dwell_time() -> None:
    run = dead(replace(AT_ONCE, rise=40)).every(0.25, 10.25, 60, "ping", "canary")
    assert run.told[-1] == (20.0, "probation -> healthy", "mirror")


def test_without_a_canary_since_the_failure_the_mirror_stays_fenced() -> None:
    assert dead().every(0.25, 10.25, 60, "ping", "tick").health_state() is HealthState.DOWN


def test_a_failure_on_probation_begins_the_way_back_again_and_is_no_second_outage() -> None:
    run = dead().every(0.25, 10.25, 20, "ping", "canary", "tick").at(20.1, CanaryFailed(20.0, REFUSED, ""))
    penalty = run.state.flap.penalty
    run.every(0.25, 20.25, 60, "ping", "canary", "tick")
    assert [(at, change) for at, change, _ in run.told][2:] == [
        (15.0, "down -> probation"),
        (20.1, "probation -> down"),
        (25.25, "down -> probation"),
        (45.25, "probation -> healthy"),
    ]
    assert penalty < POLICY.flap_penalty


def test_a_machine_that_slept_counts_successes_anew() -> None:
    run = dead().every(0.25, 10.25, 14.5, "ping", "canary").at(14.6, ClockJump(3600.0))
    run.every(0.25, 15, 16, "ping", "canary")
    assert run.health_state() is HealthState.DOWN
    assert run.state.oks < POLICY.rise


def test_a_machine_that_slept_on_probation_asks_once_more_before_it_returns() -> None:
    run = (
        dead()
        .every(0.25, 10.25, 34.5, "ping", "canary")
        .at(34.9, ClockJump(3600.0))
        .every(0.25, 35, 36, "tick")
    )
    assert run.health_state() is HealthState.PROBATION
    assert run.at(36.1, PingOk(36.1, 0.001)).health_state() is HealthState.HEALTHY


def test_a_sentinel_that_ends_while_reads_are_at_the_origin_does_not_delay_the_return() -> None:
    run = dead(AT_ONCE)
    for number in range(30):  # a mirror that closes idle connections after a second
        run.every(0.25, 10.25 + number, 11.0 + number, "ping", "canary").at(
            11.1 + number, SentinelClosed("idle")
        )
    assert [at for at, change, _ in run.told if change == "probation -> healthy"] == [15.0]


def test_a_ping_port_that_stays_dead_does_not_keep_a_working_data_path_away() -> None:
    run = dead(AT_ONCE)
    for at in range(11, 40):
        run.at(float(at), CanaryOk(float(at), 0.002), PingFailed(float(at), REFUSED, ""))
    assert run.health_state() is HealthState.HEALTHY
    assert run.state.ping_refuted
    assert [at for at, _, where in run.told if where == "mirror"] == [21.0]


def test_a_mirror_that_came_back_elsewhere_is_no_longer_looked_for_here() -> None:
    run = dead(AT_ONCE)
    for at in range(11, 40):
        run.at(float(at), OwnerSeen(Owner.NONE, ""), PingOk(float(at), 0.001), CanaryOk(float(at), 0.002))
    assert run.changes()[-1] == "probation -> healthy"
    assert not run.state.local


def test_no_answer_of_a_foreign_listener_lifts_the_fence() -> None:
    run = healthy().at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    run.every(0.25, 10.25, 300, "ping", "canary", "tick")
    assert run.state.fence is not None
    run.at(301.0, OwnerSeen(Owner.OK, "root")).every(0.25, 301.25, 330, "ping", "canary", "tick")
    assert run.health_state() is HealthState.HEALTHY


# Flaps


def test_three_quick_outages_cost_about_ten_minutes() -> None:
    run, now = flaps(3, 10.25)
    assert run.health_state() is HealthState.DOWN
    assert held_s(run.state.flap, now, POLICY) == pytest.approx(590, abs=20)
    run.every(1.0, now, now + 900, "ping", "canary", "tick")
    healed = [at for at, change, _ in run.told if change == "probation -> healthy"][-1]
    assert 500 < healed - now < 660


def test_no_number_of_outages_costs_more_than_a_quarter_of_an_hour() -> None:
    run = healthy(AT_ONCE)
    for now in range(10, 200):
        run.at(float(now), SentinelClosed("eof"), CanaryFailed(now, REFUSED, ""))
        run.state = replace(run.state, health_state=HealthState.HEALTHY)
    run.at(200.0, SentinelClosed("eof"), CanaryFailed(200.0, REFUSED, ""))
    run.every(1.0, 201, 1200, "ping", "canary", "tick")
    assert run.told[-1][1:] == ("probation -> healthy", "mirror")
    assert run.told[-1][0] - 200 <= 15 * 60 + 1


def test_twenty_flaps_cause_no_more_switches_than_the_policy_allows() -> None:
    # So many outages of which nothing has decayed yet exceed what is borne; the last of them is not followed
    # by a return before the penalty has fallen, which takes longer than the rest of the twenty.
    outages = math.floor(POLICY.flap_suppress / POLICY.flap_penalty) + 1
    run, now = flaps(20, 20.0)
    assert now - 10 < POLICY.flap_half_life_s * math.log2(POLICY.flap_suppress / POLICY.flap_reuse)
    assert outages == 3
    assert len([effect for _, effect in run.fences() if isinstance(effect, RaiseFence)]) == outages
    assert len([effect for _, effect in run.fences() if isinstance(effect, LiftFence)]) == outages - 1


def test_twenty_false_alarms_cause_no_more_switches_than_the_policy_allows() -> None:
    suspicions = math.floor(POLICY.flap_suppress / POLICY.flap_suspicion) + 1
    run = healthy(AT_ONCE)
    for number in range(20):
        now = 10.0 + number
        run.state = replace(run.state, sentinel_trusted=True)
        run.at(now, SentinelClosed("eof")).at(now + 0.1, CanaryOk(now + 0.05, 0.002), PingOk(now, 0.001))
    assert len([effect for _, effect in run.fences() if isinstance(effect, RaiseFence)]) == suspicions == 5
    assert run.health_state() is HealthState.DOWN
    assert run.state.reason.startswith("suspected again and again")


def test_a_suspicion_for_which_no_fence_was_raised_costs_nothing() -> None:
    run = Run(POLICY, FENCE, PingOk(0.0, 0.001), CanaryOk(0.0, 0.001))
    run.at(10.0, SentinelClosed("eof")).at(10.1, CanaryOk(10.05, 0.002))
    assert run.changes()[-2:] == ["healthy -> suspect", "suspect -> healthy"]
    assert run.state.flap.penalty == 0


def test_probes_that_alternate_for_an_hour_do_not_make_the_route_flap() -> None:
    for failure in Failure:
        run = healthy(AT_ONCE)
        for number in range(1200):
            now = 10.0 + 3 * number
            run.at(now, PingFailed(now, failure, "")).at(now + 1, PingOk(now + 1, 0.001))
            run.at(now + 1.5, CanaryFailed(now + 1, failure, "")).at(now + 2, CanaryOk(now + 1.9, 0.001))
        assert len(run.fences()) <= 2 * allowed_fences(POLICY, 3600.0)


def flaps(count: int, period_s: float) -> tuple[Run, float]:
    """Outages that follow each other, each of one moment, and the time after the last of them."""
    run, now = healthy(AT_ONCE), 10.0
    for _ in range(count):
        run.at(now, SentinelClosed("eof"), CanaryFailed(now, REFUSED, ""))
        run.every(0.25, now + 0.25, now + period_s - 0.25, "ping", "canary", "tick")
        now += period_s
    return run, now


def test_the_policy_follows_the_configuration() -> None:
    config = HealthConfig(tentative_ms=20_000, lease_ms=10_000, window_ms=900)
    policy = Policy.of(config, return_delay_s=7.0, canary=False)
    assert (policy.tentative_s, policy.lease_s, policy.return_delay_s, policy.canary) == (
        10.0,
        10.0,
        7.0,
        False,
    )
    assert (policy.window_s, policy.canary_window_s) == (0.9, 1.8)


def test_the_defaults_of_the_configuration_are_those_of_the_policy() -> None:
    assert Policy.of(HealthConfig(), return_delay_s=0.0, canary=True) == Policy()


def test_the_slots_of_a_fleet_are_as_even_as_numbers_drawn_at_random() -> None:
    nodes, window_s = 12_000, 60
    for form in ("{:032x}", "worker-{}", "ip-10-0-{}.example.org"):
        slots = Counter(int(return_delay_s(form.format(number), window_s)) for number in range(nodes))
        mean = nodes / window_s
        assert len(slots) == window_s
        assert max(slots.values()) < mean + 5 * math.sqrt(mean), form


def test_clones_that_share_a_machine_id_are_told_apart_by_name(tmp_path: Path) -> None:
    shared = tmp_path / "machine-id"
    shared.write_text("0123456789abcdef0123456789abcdef\n")
    assert node_identity(shared) == f"0123456789abcdef0123456789abcdef {os.uname().nodename}"
    assert node_identity(tmp_path / "none") == f" {os.uname().nodename}"
