"""From the first evidence against the mirror to a health state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    ClockJump,
    Failure,
    LoopLate,
    MirrorEnded,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Probe,
    SentinelClosed,
    Tick,
)
from agent.health.state import AskCanary, AskOwner, ExtendFence, HealthState, LiftFence, RaiseFence
from tests.unit.health_run import ASKS, BAD, FENCE, GOOD, POLICY, REFUSED, SILENT, Run, healthy

NODEPORT = replace(POLICY, loopback=False)

# The first evidence


def test_a_dead_mirror_is_fenced_by_the_first_evidence_and_down_by_the_data_path() -> None:
    run = healthy().at(10.0, PingFailed(9.9, REFUSED, "4003 refused"))
    run.at(10.01, CanaryFailed(10.0, REFUSED, "4001 refused"))
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (10.01, "suspect -> down", "origin")]
    assert run.causes == ["refused", "refused"]
    assert run.state.evidence == "4001 refused"
    assert run.done == [
        (10.0, RaiseFence(3.0, tentative=True)),
        *((10.0, ask) for ask in ASKS),
        (10.01, ExtendFence(10.0, tentative=False)),
    ]


def test_a_closed_sentinel_fences_before_anything_is_asked() -> None:
    run = healthy().at(10.0, SentinelClosed("end of file"))
    assert [effect for _, effect in run.done] == [RaiseFence(3.0, tentative=True), *ASKS]
    assert run.causes == ["closed"]


def test_the_mirrors_process_that_ends_fences_although_its_sentinel_is_not_trusted() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).at(10.02, CanaryOk(10.001, 0.002))
    assert not run.state.sentinel_trusted
    run.at(20.0, MirrorEnded("pid 7 has ended"))
    assert run.health_state() is HealthState.SUSPECT
    assert run.asked(20.0) == ASKS
    assert run.causes[-1] == "ended"


def test_one_process_seen_to_end_by_two_is_one_fact_and_the_canary_must_be_younger_than_both() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).at(10.01, MirrorEnded("pid 7 has ended"))
    assert run.health_state() is HealthState.SUSPECT
    run.at(10.02, CanaryOk(10.005, 0.002))
    assert run.health_state() is HealthState.SUSPECT
    run.at(10.03, CanaryOk(10.02, 0.002))
    assert run.health_state() is HealthState.HEALTHY


@pytest.mark.parametrize(
    "second", [PingFailed(10.0, REFUSED, ""), OwnerSeen(Owner.NONE, ""), CanaryFailed(9.0, SILENT, "")]
)
def test_two_accusers_that_see_different_things_need_no_canary(
    second: PingFailed | OwnerSeen | CanaryFailed,
) -> None:
    assert healthy().at(10.0, SentinelClosed("eof")).at(10.01, second).health_state() is HealthState.DOWN


def test_an_accusation_that_was_taken_back_does_not_confirm_another() -> None:
    run = healthy().at(10.0, PingFailed(9.4, SILENT, ""))
    run.at(10.1, PingOk(10.05, 0.001), SentinelClosed("eof"))
    assert run.health_state() is HealthState.SUSPECT


def test_a_canarys_silence_is_taken_back_by_its_late_answer() -> None:
    run = healthy().at(10.0, CanaryFailed(8.8, SILENT, ""))
    run.at(10.2, CanaryOk(8.8, 1.4), SentinelClosed("eof"))
    assert run.health_state() is HealthState.SUSPECT


def test_each_charge_in_a_suspicion_asks_for_a_canary() -> None:
    run = healthy().at(10.0, PingFailed(9.4, SILENT, "")).at(10.7, PingFailed(10.1, SILENT, ""))
    assert run.asked(10.7) == [AskCanary()]


def test_a_hard_failure_after_silence_is_an_outage_when_nothing_has_taken_it_back() -> None:
    run = healthy().at(10.0, PingFailed(9.4, SILENT, ""))
    run.at(10.2, PingFailed(10.2, REFUSED, ""))
    run.at(13.0, Tick())
    assert run.health_state() is HealthState.DOWN


def test_a_lie_of_the_data_path_is_not_taken_back_by_time() -> None:
    run = healthy().at(10.0, CanaryFailed(9.9, Failure.CONTENT, "")).at(10.2, SentinelClosed("eof"))
    assert run.health_state() is HealthState.DOWN


def test_a_clean_canary_lifts_a_tentative_fence() -> None:
    run = healthy().at(10.0, SentinelClosed("end of file")).at(10.02, CanaryOk(10.001, 0.002))
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (10.02, "suspect -> healthy", "mirror")]
    assert run.causes == ["closed", "refuted"]
    assert run.fences() == [(10.0, RaiseFence(3.0, tentative=True)), (10.02, LiftFence())]


def test_a_canary_sent_before_the_suspicion_does_not_lift_the_fence() -> None:
    run = healthy().at(10.0, SentinelClosed("end of file")).at(10.01, CanaryOk(9.99, 0.002))
    assert run.health_state() is HealthState.SUSPECT


def test_a_mirror_that_closes_idle_connections_is_not_fenced_for_it_twice() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"))
    run.at(10.02, CanaryOk(10.001, 0.002))
    run.at(40.0, SentinelClosed("eof"))
    assert run.fences()[2:] == []
    assert run.asked(40.0) == [AskOwner(), AskCanary()]


def test_after_a_real_outage_a_closed_sentinel_is_believed_again() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).at(10.02, CanaryOk(10.001, 0.002))
    run.at(11.0, CanaryFailed(11.0, REFUSED, ""), CanaryFailed(11.0, REFUSED, ""))
    assert run.state.sentinel_trusted


# Silence


def test_silence_fences_at_once_and_is_down_when_it_lasts_longer_than_any_honest_answer() -> None:
    run = healthy()
    for number in range(5):
        run.at(10.85 + 0.66 * number, PingFailed(10.25 + 0.66 * number, SILENT, "0.6 s"))
    assert [(round(at, 2), change) for at, change, _ in run.told] == [
        (10.85, "healthy -> suspect"),
        (13.49, "suspect -> down"),
    ]
    assert POLICY.window_cap_s <= 13.49 - 10.25


def test_silence_that_ends_before_is_no_outage() -> None:
    run = healthy().at(10.85, PingFailed(10.25, SILENT, "")).at(11.5, PingFailed(10.9, SILENT, ""))
    run.at(12.0, PingOk(10.9, 1.1), CanaryOk(11.0, 1.0))
    assert run.health_state() is HealthState.HEALTHY
    assert run.state.flap.penalty == POLICY.flap_suspicion


def test_silence_of_both_probes_that_no_answer_has_broken_is_an_outage_when_the_suspicion_ends() -> None:
    run = healthy(replace(POLICY, tentative_s=1.0)).at(10.85, PingFailed(10.25, SILENT, ""))
    run.at(11.5, PingFailed(10.9, SILENT, "")).at(11.9, Tick())
    assert run.told[-1] == (11.9, "suspect -> down", "origin")


def test_silence_that_a_canary_refuted_must_last_before_it_fences_again() -> None:
    run = healthy().at(10.0, PingFailed(9.4, SILENT, "")).at(10.1, CanaryOk(10.0, 0.002), PingOk(10.0, 0.001))
    run.at(12.0, PingFailed(11.4, SILENT, ""))
    assert run.health_state() is HealthState.HEALTHY
    assert run.asked(12.0) == [AskCanary()]
    run.at(12.3, PingFailed(11.7, SILENT, ""))
    assert run.health_state() is HealthState.SUSPECT
    late = healthy().at(10.0, PingFailed(9.4, SILENT, ""))
    late.at(10.1, CanaryOk(10.0, 0.002), PingOk(10.0, 0.001))
    assert late.at(10.2 + POLICY.doubt_s, PingFailed(640.0, SILENT, "")).health_state() is HealthState.SUSPECT


def test_one_silent_round_of_pings_with_nothing_after_it_is_no_outage() -> None:
    run = healthy().at(10.0, PingFailed(9.4, SILENT, "")).at(13.0, Tick())
    assert run.told[-1] == (13.0, "suspect -> healthy", "mirror")
    assert run.state.reason == "the suspicion was not confirmed"
    assert not run.state.ping_refuted  # no canary has vouched for them
    assert run.state.ping_soft == 0


def test_a_hung_data_path_behind_a_good_ping_fences_within_three_seconds_and_is_down_when_it_lasts() -> None:
    # The fault comes just after a canary; the next one begins an interval (a tenth of jitter) later.
    began = 10.0 + 1.1 * POLICY.canary_interval_s
    run = healthy().every(0.25, 10.0, 12.25, "ping", "tick")
    run.at(began + POLICY.canary_window_s, CanaryFailed(began, SILENT, ""))
    assert run.fences()[0][0] - 10.0 < 3.0
    now = run.fences()[0][0]
    for number in (1, 2):
        run.every(0.25, now + 0.25, now + 1.0, "ping", "tick")
        now += POLICY.canary_window_s
        run.at(now, CanaryFailed(began + number * POLICY.canary_window_s, SILENT, ""))
    assert run.changes() == ["healthy -> suspect", "suspect -> down"]


@pytest.mark.parametrize("failure", [each for each in Failure if each not in (SILENT, Failure.WANT)])
def test_a_data_path_that_lies_is_down_although_the_ping_port_answers(failure: Failure) -> None:
    run = healthy().at(10.0, CanaryFailed(9.9, failure, "")).at(10.01, PingOk(10.0, 0.001))
    run.at(10.02, CanaryFailed(10.01, failure, ""))
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (10.02, "suspect -> down", "origin")]
    assert run.causes == [failure, failure]


def test_a_data_path_that_lies_now_and_then_is_down_at_its_second_lie() -> None:
    run = healthy().at(10.0, CanaryFailed(9.9, Failure.STATUS, "")).at(10.01, CanaryOk(10.0, 0.002))
    assert run.health_state() is HealthState.HEALTHY
    run.at(69.0, CanaryFailed(68.9, Failure.STATUS, ""))
    assert run.health_state() is HealthState.DOWN
    assert run.state.reason == "canary status, again"


def test_a_lie_of_the_data_path_and_then_nothing_is_not_an_outage() -> None:
    run = healthy().at(10.0, CanaryFailed(9.9, Failure.STATUS, "")).at(13.0, PingOk(13.0, 0.001))
    assert run.changes() == ["healthy -> suspect", "suspect -> healthy"]


# A mirror that cannot reach this node: no canaries

NO_CANARY = replace(POLICY, canary=False)


def test_a_mirror_that_cannot_reach_the_node_is_judged_by_its_pings() -> None:
    run = Run(NO_CANARY, FENCE, GOOD).at(1.0, PingOk(0.9, 0.001))
    assert run.health_state() is HealthState.HEALTHY
    run.at(10.0, PingFailed(9.4, SILENT, "")).every(0.25, 10.25, 10.75, "ping")
    assert run.health_state() is HealthState.HEALTHY
    assert run.state.reason == "3 pings in succession were answered"
    run.at(50.0, PingFailed(49.9, REFUSED, "")).at(50.1, PingFailed(50.0, REFUSED, ""))
    assert run.health_state() is HealthState.DOWN
    run.every(0.25, 50.25, 90, "ping", "tick")
    assert run.told[-1][1] == "probation -> healthy"


def test_without_canaries_a_ping_that_was_wrong_once_is_still_believed() -> None:
    run = Run(NO_CANARY, FENCE, GOOD).at(1.0, PingOk(0.9, 0.001)).at(10.0, PingFailed(9.9, REFUSED, ""))
    run.every(0.25, 10.25, 10.75, "ping")
    assert run.health_state() is HealthState.HEALTHY
    assert run.at(20.0, PingFailed(19.9, REFUSED, "")).health_state() is HealthState.SUSPECT


# Owner


def test_a_local_mirror_whose_listener_is_gone_is_suspect() -> None:
    run = healthy().at(10.0, OwnerSeen(Owner.NONE, ""))
    assert run.health_state() is HealthState.SUSPECT
    assert run.causes == ["owner"]


def test_a_mirror_that_answers_although_its_listener_is_gone_has_moved_elsewhere() -> None:
    run = healthy().at(10.0, OwnerSeen(Owner.NONE, "")).at(10.1, CanaryOk(10.05, 0.002))
    assert run.health_state() is HealthState.HEALTHY
    assert not run.state.local
    assert run.at(11.0, OwnerSeen(Owner.NONE, "")).health_state() is HealthState.HEALTHY


def test_a_remote_mirror_is_not_judged_by_the_local_socket_tables() -> None:
    run = Run(POLICY, FENCE, GOOD, PingOk(0.0, 0.001), CanaryOk(0.0, 0.002)).at(
        10.0, OwnerSeen(Owner.NONE, "")
    )
    assert run.health_state() is HealthState.HEALTHY


def test_a_users_socket_here_is_no_evidence_against_a_mirror_behind_a_nodeport() -> None:
    run = Run(NODEPORT, FENCE, GOOD, PingOk(0.0, 0.001), CanaryOk(0.0, 0.002))
    run.at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert (run.health_state(), run.state.owner, run.fence_log()) == (HealthState.HEALTHY, Owner.UNKNOWN, [])


def test_a_foreign_process_on_the_nodes_own_address_is_fenced_where_the_mirror_listened() -> None:
    run = healthy(NODEPORT).at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert (run.health_state(), run.fences()) == (
        HealthState.DOWN,
        [(10.0, RaiseFence(10.0, tentative=False))],
    )


def test_a_clean_canary_of_a_foreign_listener_lifts_nothing() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"))
    run.at(10.02, OwnerSeen(Owner.FOREIGN, "uid 1000"), CanaryOk(10.01, 0.002))
    assert run.health_state() is HealthState.DOWN
    assert run.state.cause == "owner"


def test_a_foreign_listener_stays_fenced_while_the_kernel_does_not_tell_who_listens() -> None:
    run = healthy().at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"), OwnerSeen(Owner.UNKNOWN, "no answer"))
    run.at(10.1, BAD)
    assert (run.state.owner, run.state.fence is None) == (Owner.FOREIGN, False)
    assert run.at(11.0, OwnerSeen(Owner.OK, "uid 0")).state.fence is None


def test_a_foreign_process_that_takes_the_port_of_a_dead_mirror_is_named() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))
    run.at(11.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert (run.state.since, run.state.cause, run.state.evidence) == (10.0, "owner", "uid 1000")
    assert run.state.reason == "a foreign process listens on the mirror's port"
    run.every(0.25, 11.25, 12, "ping", "canary").at(12.1, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert (run.state.oks, run.state.failed_at) == (0, 12.1)


# Self-doubt


@pytest.mark.parametrize("probe", list(Probe))
def test_rounds_in_which_the_agent_was_late_do_not_count_until_they_are_many(probe: Probe) -> None:
    run = healthy()
    for at in range(10, 14):
        run.at(float(at), LoopLate(0.3, probe))
    assert run.health_state() is HealthState.HEALTHY
    run.at(14.0, LoopLate(0.3, probe))
    assert run.health_state() is HealthState.SUSPECT
    assert run.causes == ["late"]
    assert run.state.evidence == "no answer in 5 rounds in which the agent was late too, by up to 300 ms"
    assert run.state.hard == frozenset()
    run.at(14.5, *(LoopLate(0.3, probe) for _ in range(4)))
    assert run.state.soft == 1


@pytest.mark.parametrize(
    ("probe", "answer"), [(Probe.PING, PingOk(0, 0.001)), (Probe.CANARY, CanaryOk(0, 0.001))]
)
def test_an_answer_between_late_rounds_starts_their_count_anew(
    probe: Probe, answer: PingOk | CanaryOk
) -> None:
    run = healthy()
    for at in range(10, 30):
        run.at(float(at), LoopLate(0.3, probe), *([answer] if at % 4 == 0 else []))
    assert run.told == []


def test_an_agent_that_is_always_late_still_finds_an_outage() -> None:
    run = healthy()
    for number in range(15):
        run.at(10 + 0.7 * number, LoopLate(0.3)).at(10.1 + 0.7 * number, LoopLate(0.3, Probe.CANARY))
    assert run.health_state() is HealthState.DOWN


def test_a_machine_that_slept_begins_all_its_counts_anew() -> None:
    run = healthy().at(9.0, BAD).at(10.0, PingFailed(9.0, SILENT, ""), CanaryFailed(9.0, SILENT, ""))
    run.at(11.0, LoopLate(0.3), LoopLate(0.3, Probe.CANARY), ClockJump(60.0))
    state = run.state
    counts = state.ping_bad, state.ping_soft, state.ping_late, state.canary_bad, state.canary_soft
    assert (*counts, state.canary_late, state.oks, state.canary_oks) == (0,) * 8
    well = healthy().every(0.25, 1, 2, "ping", "canary").at(3.0, ClockJump(60.0)).state
    assert (well.oks, well.canary_oks) == (0, 0)


def test_what_a_machine_that_slept_had_counted_in_succession_is_forgotten() -> None:
    run = healthy()
    for number in range(4):
        run.at(10.0 + number, LoopLate(0.3))
    run.at(14.0, ClockJump(3600.0)).at(14.1, LoopLate(0.3))
    assert run.health_state() is HealthState.HEALTHY
    run = healthy().at(9.0, PingFailed(8.0, SILENT, "")).at(9.1, CanaryOk(9.05, 0.002))
    run.at(10.0, PingFailed(9.4, SILENT, ""), ClockJump(3600.0), PingFailed(10.0, SILENT, ""))
    assert run.health_state() is HealthState.HEALTHY
