"""The health machine: whole runs are written down as (time, event) and compared as lists of what was told and done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import HealthConfig
from agent.health.evidence import (
    Adopted,
    CanaryFailed,
    CanaryOk,
    ClockJump,
    Event,
    Failure,
    FenceFailed,
    LoopLate,
    Mode,
    ModeChanged,
    OriginSeen,
    OwnerSeen,
    PingFailed,
    PingOk,
    Pinned,
    Route,
    SentinelClosed,
    Symptom,
    SymptomKind,
    Tick,
)
from agent.health.machine import step, transition
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.route import route, route_reason
from agent.health.state import (
    AskCanary,
    AskOrigin,
    AskOwner,
    Effect,
    ExtendFence,
    LiftFence,
    RaiseFence,
    State,
    Verdict,
)

POLICY = Policy(return_delay_s=20.0)
FENCE = ModeChanged(Mode.FENCE, "applied")
GOOD = OriginSeen(True, "answers")
BAD = OriginSeen(False, "refused")
REFUSED = Failure.REFUSED
SILENT = Failure.SILENT


class Run:
    """A state that is fed, with what was told and done on the way."""

    def __init__(self, policy: Policy = POLICY, *first: Event) -> None:
        self.policy = policy
        self.state = State()
        self.told: list[tuple[float, str, str]] = []
        """(time, verdict before -> after, route after)"""
        self.done: list[tuple[float, Effect]] = []
        for event in first:
            self.at(0.0, event)

    def at(self, now: float, *events: Event) -> Run:
        for event in events:
            before = self.state
            self.state, effects = step(before, event, now, self.policy)
            self.done += [(now, effect) for effect in effects]
            change = transition(before, self.state)
            if change is not None:
                self.told.append((now, f"{change.before} -> {change.after}", str(change.route)))
        return self

    def every(self, gap: float, start: float, end: float, *kinds: str) -> Run:
        """`kinds` ("ping", "canary", "tick") in each gap from start to end."""
        now = start
        while now <= end:
            events: dict[str, Event] = {"ping": PingOk(now, 0.001), "canary": CanaryOk(now, 0.002), "tick": Tick()}
            for kind in kinds:
                self.at(round(now, 3), events[kind])
            now += gap
        return self

    def verdict(self) -> Verdict:
        return self.state.verdict

    def fences(self) -> list[tuple[float, Effect]]:
        return [(now, effect) for now, effect in self.done if isinstance(effect, (RaiseFence, LiftFence))]

    def fence_log(self) -> list[tuple[float, Effect]]:
        return [(now, effect) for now, effect in self.done if isinstance(effect, (RaiseFence, ExtendFence, LiftFence))]


def healthy(policy: Policy = POLICY) -> Run:
    run = Run(policy, FENCE, GOOD, OwnerSeen(Owner.OK, "root"), PingOk(0.0, 0.001), CanaryOk(0.0, 0.002))
    assert run.verdict() is Verdict.HEALTHY
    run.told.clear()
    run.done.clear()
    return run


def test_a_cold_node_uses_the_mirror_after_one_answer_and_one_canary() -> None:
    run = Run(POLICY, FENCE, GOOD).at(1.0, PingOk(0.9, 0.001)).at(1.5, CanaryOk(1.4, 0.002))
    assert run.told == [(0.0, "unknown -> unknown", "mirror"), (1.5, "unknown -> healthy", "mirror")]
    assert run.done == []


def test_an_answer_without_a_canary_is_not_enough_to_call_the_mirror_healthy() -> None:
    assert Run(POLICY, FENCE, GOOD).every(0.25, 1, 60, "ping", "tick").verdict() is Verdict.UNKNOWN


def test_a_dead_mirror_is_fenced_by_the_first_evidence_and_down_by_the_second() -> None:
    run = healthy().at(10.0, PingFailed(9.9, REFUSED, "4003 refused"))
    run.at(10.01, CanaryFailed(10.0, REFUSED, "4001 refused"))
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (10.01, "suspect -> down", "origin")]
    assert run.done == [
        (10.0, RaiseFence(3.0, tentative=True)),
        (10.0, AskCanary()),
        (10.0, AskOwner()),
        (10.0, AskOrigin()),
        (10.01, ExtendFence(10.0, tentative=False)),
    ]


def test_a_closed_sentinel_fences_before_anything_is_asked() -> None:
    run = healthy().at(10.0, SentinelClosed("end of file"))
    assert run.done[0] == (10.0, RaiseFence(3.0, tentative=True))


def test_a_clean_canary_lifts_a_tentative_fence() -> None:
    run = healthy().at(10.0, SentinelClosed("end of file")).at(10.02, CanaryOk(10.001, 0.002))
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (10.02, "suspect -> healthy", "mirror")]
    assert run.fences() == [(10.0, RaiseFence(3.0, tentative=True)), (10.02, LiftFence())]


def test_a_canary_sent_before_the_suspicion_does_not_lift_the_fence() -> None:
    run = healthy().at(10.0, SentinelClosed("end of file")).at(10.01, CanaryOk(9.99, 0.002))
    assert run.verdict() is Verdict.SUSPECT


def test_a_mirror_that_closes_idle_connections_is_not_fenced_for_it_twice() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).at(10.02, CanaryOk(10.001, 0.002)).at(40.0, SentinelClosed("eof"))
    assert run.fences()[2:] == []
    assert run.done[-2:] == [(40.0, AskOwner()), (40.0, AskCanary())]


def test_after_a_real_outage_a_closed_sentinel_is_believed_again() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).at(10.02, CanaryOk(10.001, 0.002))
    run.at(11.0, PingFailed(11.0, REFUSED, ""), PingFailed(11.0, REFUSED, ""))
    assert run.state.sentinel_trusted


def test_silence_fences_at_once_and_is_down_after_fall_rounds() -> None:
    run = healthy().at(10.85, PingFailed(10.25, SILENT, "0.6 s")).at(11.5, PingFailed(10.9, SILENT, "0.6 s"))
    assert run.told == [(10.85, "healthy -> suspect", "origin"), (11.5, "suspect -> down", "origin")]


def test_silence_that_a_canary_refuted_must_last_before_it_fences_again() -> None:
    run = healthy().at(10.0, PingFailed(9.4, SILENT, "")).at(10.1, CanaryOk(10.0, 0.002), PingOk(10.0, 0.001))
    run.at(12.0, PingFailed(11.4, SILENT, ""))
    assert run.verdict() is Verdict.HEALTHY
    run.at(12.3, PingFailed(11.7, SILENT, ""))
    assert run.verdict() is Verdict.SUSPECT
    late = healthy().at(10.0, PingFailed(9.4, SILENT, "")).at(10.1, CanaryOk(10.0, 0.002), PingOk(10.0, 0.001))
    assert late.at(10.2 + POLICY.grace_s, PingFailed(40.0, SILENT, "")).verdict() is Verdict.SUSPECT


def test_a_ping_port_that_fails_while_the_data_path_works_does_not_move_the_route() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.01, CanaryOk(10.001, 0.002))
    for at in range(11, 200):
        run.at(float(at), PingFailed(float(at), REFUSED, ""), CanaryOk(float(at), 0.002), Tick())
    assert [change for _, change, _ in run.told] == ["healthy -> suspect", "suspect -> healthy"]
    run.at(200.0, CanaryFailed(200.0, REFUSED, "")).at(200.1, CanaryFailed(200.1, REFUSED, ""))
    assert run.verdict() is Verdict.DOWN


def test_a_ping_port_counts_again_once_it_has_answered() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.01, CanaryOk(10.001, 0.002))
    run.at(11.0, PingOk(11.0, 0.001)).at(12.0, PingFailed(12.0, REFUSED, ""))
    assert run.verdict() is Verdict.SUSPECT


@pytest.mark.parametrize("failure", [f for f in Failure if f.hard])
def test_a_data_path_that_lies_is_down_although_the_ping_port_answers(failure: Failure) -> None:
    run = healthy().at(10.0, CanaryFailed(9.9, failure, "")).at(10.01, PingOk(10.0, 0.001))
    run.at(10.02, CanaryFailed(10.01, failure, ""))
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (10.02, "suspect -> down", "origin")]


def test_a_hung_data_path_is_down_although_the_ping_port_answers() -> None:
    run = healthy().at(10.0, CanaryFailed(8.8, SILENT, ""))
    run.every(0.25, 10.1, 11.1, "ping", "tick").at(11.2, CanaryFailed(10.0, SILENT, ""))
    assert run.verdict() is Verdict.DOWN


def test_an_origin_that_is_bad_keeps_the_mirror_in_use() -> None:
    run = healthy().at(9.0, BAD).at(10.0, PingFailed(9.9, SILENT, "")).at(11.0, PingFailed(10.9, SILENT, ""))
    assert run.verdict() is Verdict.DOWN
    assert run.fence_log() == []
    assert route_reason(run.state).startswith("both bad")


def test_an_origin_that_turns_bad_lifts_the_fence_and_a_good_one_raises_it() -> None:
    run = healthy().at(10.0, PingFailed(9.9, REFUSED, ""), PingFailed(9.9, REFUSED, ""))
    run.at(20.0, BAD).at(30.0, GOOD)
    assert run.fences() == [
        (10.0, RaiseFence(3.0, tentative=True)),
        (20.0, LiftFence()),
        (30.0, RaiseFence(10.0, tentative=False)),
    ]


def test_an_origin_that_never_answered_is_asked_before_the_fence_goes_up() -> None:
    run = Run(POLICY, FENCE).at(10.0, PingFailed(9.9, REFUSED, ""))
    assert run.fence_log() == []
    assert (10.0, AskOrigin()) in run.done
    run.at(10.5, GOOD)
    assert run.fences() == [(10.5, RaiseFence(2.5, tentative=True))]


def test_a_foreign_listener_is_fenced_even_where_the_origin_is_bad() -> None:
    run = healthy().at(9.0, BAD).at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert run.told == [(10.0, "healthy -> down", "origin")]
    assert run.fences() == [(10.0, RaiseFence(10.0, tentative=False))]


def test_no_answer_of_a_foreign_listener_lifts_the_fence() -> None:
    run = healthy().at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    run.every(0.25, 10.25, 300, "ping", "canary", "tick")
    assert run.state.fence is not None


def test_a_clean_canary_of_a_foreign_listener_lifts_nothing() -> None:
    run = (
        healthy()
        .at(10.0, SentinelClosed("eof"))
        .at(10.02, OwnerSeen(Owner.FOREIGN, "uid 1000"), CanaryOk(10.01, 0.002))
    )
    assert run.verdict() is Verdict.DOWN


def test_a_local_mirror_whose_listener_is_gone_is_suspect() -> None:
    assert healthy().at(10.0, OwnerSeen(Owner.NONE, "")).verdict() is Verdict.SUSPECT


def test_a_remote_mirror_is_not_judged_by_the_local_socket_tables() -> None:
    run = Run(POLICY, FENCE, GOOD, PingOk(0.0, 0.001), CanaryOk(0.0, 0.002)).at(10.0, OwnerSeen(Owner.NONE, ""))
    assert run.verdict() is Verdict.HEALTHY


def test_the_way_back_takes_successes_dwell_a_canary_and_this_nodes_slot() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    run.every(0.25, 10.25, 60, "ping", "canary", "tick")
    assert run.told == [
        (10.0, "healthy -> suspect", "origin"),
        (10.0, "suspect -> down", "origin"),
        (15.0, "down -> probation", "origin"),
        (35.0, "probation -> healthy", "mirror"),
    ]


def test_without_a_canary_since_the_failure_the_mirror_stays_fenced() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    run.every(0.25, 10.25, 60, "ping", "tick")
    assert run.verdict() is Verdict.DOWN


def test_a_failure_on_probation_begins_the_way_back_again() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    run.every(0.25, 10.25, 20, "ping", "canary", "tick").at(20.1, PingFailed(20.0, REFUSED, ""))
    run.every(0.25, 20.25, 60, "ping", "canary", "tick")
    assert [(at, change) for at, change, _ in run.told][2:] == [
        (15.0, "down -> probation"),
        (20.1, "probation -> down"),
        (25.25, "down -> probation"),
        (45.25, "probation -> healthy"),
    ]


def test_a_mirror_that_was_never_well_is_used_as_soon_as_it_answers() -> None:
    run = Run(POLICY, FENCE, GOOD).at(1.0, PingFailed(0.9, REFUSED, ""), PingFailed(0.9, REFUSED, ""))
    run.at(4.0, PingOk(3.9, 0.001)).at(4.1, CanaryOk(4.0, 0.002))
    assert run.told[-1] == (4.1, "down -> healthy", "mirror")


def test_three_quick_outages_cost_about_ten_minutes() -> None:
    run = healthy(replace(POLICY, return_delay_s=0.0))
    now = 10.0
    for _ in range(3):
        run.at(now, SentinelClosed("eof"), CanaryFailed(now, REFUSED, ""))
        run.every(0.25, now + 0.25, now + 10, "ping", "canary", "tick")
        now += 10.25
    assert run.verdict() is Verdict.DOWN
    run.every(1.0, now, now + 900, "ping", "canary", "tick")
    healed = [at for at, change, _ in run.told if change == "probation -> healthy"][-1]
    assert 500 < healed - now < 660


def test_no_number_of_outages_costs_more_than_a_quarter_of_an_hour() -> None:
    run = healthy(replace(POLICY, return_delay_s=0.0))
    for now in range(10, 200):
        run.at(float(now), SentinelClosed("eof"), CanaryFailed(now, REFUSED, ""))
        run.state = replace(run.state, verdict=Verdict.HEALTHY)
    run.at(200.0, SentinelClosed("eof"), CanaryFailed(200.0, REFUSED, ""))
    run.every(1.0, 201, 1200, "ping", "canary", "tick")
    assert run.told[-1][1:] == ("probation -> healthy", "mirror")
    assert run.told[-1][0] - 200 <= 15 * 60 + 1


def test_a_fence_is_renewed_every_second_and_never_for_longer_than_the_lease() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    run.every(0.25, 10.25, 20, "tick")
    times = [at for at, effect in run.fence_log()]
    assert times == [10.0, 10.0, *(float(at) for at in range(11, 21))]
    leases = [effect.lease_s for _, effect in run.fence_log() if isinstance(effect, RaiseFence | ExtendFence)]
    assert max(leases) <= POLICY.lease_s


def test_a_tentative_fence_is_asserted_but_not_prolonged() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).every(0.5, 10.5, 14, "tick")
    assert run.fence_log() == [
        (10.0, RaiseFence(3.0, tentative=True)),
        (11.0, ExtendFence(2.0, tentative=True)),
        (12.0, ExtendFence(1.0, tentative=True)),
        (13.0, LiftFence()),
    ]
    assert run.verdict() is Verdict.HEALTHY


def test_rounds_in_which_the_agent_was_late_do_not_count() -> None:
    run = healthy()
    for at in range(10, 14):
        run.at(float(at), LoopLate(0.3))
    assert run.verdict() is Verdict.HEALTHY
    run.at(14.0, LoopLate(0.3))
    assert run.verdict() is Verdict.SUSPECT


def test_an_answer_between_late_rounds_starts_their_count_anew() -> None:
    run = healthy()
    for at in range(10, 30):
        run.at(float(at), LoopLate(0.3), PingOk(float(at), 0.001)) if at % 4 == 0 else run.at(float(at), LoopLate(0.3))
    assert run.verdict() is Verdict.HEALTHY


def test_a_machine_that_slept_counts_successes_anew() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    run.every(0.25, 10.25, 14.5, "ping", "canary").at(14.6, ClockJump(3600.0)).every(0.25, 15, 16, "ping", "canary")
    assert run.verdict() is Verdict.DOWN
    assert run.state.oks < POLICY.rise


def test_a_restart_adopts_the_running_fence_and_nothing_flips() -> None:
    run = Run(POLICY, FENCE)
    run.told.clear()
    run.at(0.0, Adopted(6.5))
    assert run.told == [(0.0, "unknown -> down", "origin")]
    assert run.fence_log() == [(0.0, ExtendFence(10.0, tentative=False))]
    run.every(0.25, 0.25, 60, "ping", "canary", "tick")
    assert [change for _, change, _ in run.told] == ["unknown -> down", "down -> probation", "probation -> healthy"]


def test_a_fence_found_where_the_mode_is_native_is_lifted() -> None:
    run = Run(POLICY, ModeChanged(Mode.NATIVE, "")).at(0.0, Adopted(6.5))
    assert run.fence_log() == [(0.0, LiftFence())]


@pytest.mark.parametrize(("mode", "where"), [(Mode.NATIVE, Route.MIRROR), (Mode.UNKNOWN, Route.ORIGIN)])
def test_without_the_fence_mode_nothing_is_ever_fenced(mode: Mode, where: Route) -> None:
    run = Run(POLICY, ModeChanged(mode, ""), GOOD, PingOk(0.0, 0.001), CanaryOk(0.0, 0.002))
    assert route(run.state) is where
    run.at(
        10.0,
        SentinelClosed("eof"),
        CanaryFailed(10.0, REFUSED, ""),
        OwnerSeen(Owner.FOREIGN, ""),
        PingFailed(1.0, REFUSED, ""),
    )
    assert run.fence_log() == []
    assert run.verdict() is Verdict.DOWN
    assert route(run.state) is Route.ORIGIN


def test_a_pin_to_the_origin_holds_the_fence_on_a_healthy_mirror_until_it_ends() -> None:
    run = healthy().at(10.0, Pinned(Route.ORIGIN, "maintenance")).at(70.0, Pinned(None))
    assert run.told == [(10.0, "healthy -> healthy", "origin"), (70.0, "healthy -> healthy", "mirror")]


def test_a_pin_to_the_mirror_keeps_a_dead_mirror_unfenced() -> None:
    run = (
        healthy()
        .at(9.0, Pinned(Route.MIRROR, "I know better"))
        .at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    )
    assert run.verdict() is Verdict.DOWN
    assert run.fence_log() == []


def test_a_fence_that_cannot_be_raised_is_tried_again_each_second_and_never_claimed() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), FenceFailed("no permission"))
    assert route(run.state) is Route.MIRROR
    assert "no permission" in route_reason(run.state)
    run.at(10.5, CanaryFailed(10.4, REFUSED, ""))
    assert [at for at, _ in run.fences()] == [10.0]
    run.at(11.0, Tick())
    assert [at for at, _ in run.fences()] == [10.0, 11.0]


def test_a_symptom_asks_for_a_canary() -> None:
    assert healthy().at(10.0, Symptom(SymptomKind.STATUS, "retry", 10.0)).done == [(10.0, AskCanary())]


NO_CANARY = replace(POLICY, canary=False)


def test_a_mirror_that_cannot_reach_the_node_is_judged_by_its_pings() -> None:
    run = Run(NO_CANARY, FENCE, GOOD).at(1.0, PingOk(0.9, 0.001))
    assert run.verdict() is Verdict.HEALTHY
    run.at(10.0, PingFailed(9.4, SILENT, "")).every(0.25, 10.25, 10.75, "ping")
    assert run.verdict() is Verdict.HEALTHY
    run.at(50.0, PingFailed(49.9, REFUSED, "")).at(50.1, PingFailed(50.0, REFUSED, ""))
    assert run.verdict() is Verdict.DOWN
    run.every(0.25, 50.25, 90, "ping", "tick")
    assert run.told[-1][1] == "probation -> healthy"


def test_the_policy_follows_the_configuration() -> None:
    policy = Policy.of(HealthConfig(tentative_ms=20_000, lease_ms=10_000), return_delay_s=7.0, canary=False)
    assert (policy.tentative_s, policy.lease_s, policy.return_delay_s, policy.canary) == (10.0, 10.0, 7.0, False)
