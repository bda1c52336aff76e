"""What real reads tell the health machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Mode,
    ModeChanged,
    PingFailed,
    PingOk,
    Symptom,
    SymptomKind,
    SymptomsUnknown,
    Tick,
)
from agent.health.state import (
    AskCanary,
    AskOwner,
    ExtendFence,
    Flap,
    HealthState,
    LiftFence,
    RaiseFence,
    after_outage,
    released,
)
from tests.unit.health_run import (
    ASKS,
    BAD,
    COUNTER,
    FALLBACK,
    GOOD,
    POLICY,
    REFUSED,
    SILENT,
    STATUS,
    Run,
    healthy,
)

HARD = [SymptomKind.STATUS, SymptomKind.REFUSED, SymptomKind.DECODE, SymptomKind.CUT]


def cleared() -> Run:
    """A mirror that was suspected for a symptom at 10 s, and cleared at 13 s."""
    run = healthy().symptom(10.0, STATUS).every(0.5, 10.5, 13.0, "ping", "canary", "tick")
    assert run.changes() == ["healthy -> suspect", "suspect -> healthy"]
    return run


def fenced_for_symptoms() -> Run:
    """Down for symptoms since 20 s."""
    run = cleared().symptom(20.0, STATUS)
    assert run.health_state() is HealthState.DOWN
    return run


@pytest.mark.parametrize("kind", HARD)
def test_one_read_that_nydusd_will_fail_fences_for_the_whole_time_whatever_a_canary_says(
    kind: SymptomKind,
) -> None:
    run = healthy().symptom(10.0, kind)
    assert [effect for _, effect in run.done] == [RaiseFence(3.0, tentative=True), *ASKS]
    run.every(0.25, 10.25, 12.75, "ping", "canary")
    assert run.health_state() is HealthState.SUSPECT
    run.at(13.0, Tick())
    assert run.told == [(10.0, "healthy -> suspect", "origin"), (13.0, "suspect -> healthy", "mirror")]
    assert run.causes == ["symptom", "refuted"]
    assert run.state.reason == "a canary came back clean"


def test_a_refusal_that_the_operator_wants_honoured_moves_no_read() -> None:
    """dfdaemon's block list: the read fails, as it is wanted; a limited rate (429) fences all the same."""
    run = healthy(replace(POLICY, honour_refusals=True))
    assert run.symptom(10.0, SymptomKind.REFUSED).done == []
    assert run.health_state() is HealthState.HEALTHY
    assert run.symptom(10.1, STATUS).health_state() is HealthState.SUSPECT


@pytest.mark.parametrize("kind", HARD)
def test_another_one_soon_after_is_an_outage_with_its_penalty_and_the_whole_way_back(
    kind: SymptomKind,
) -> None:
    run = cleared().symptom(72.9, kind)
    assert run.told[-1] == (72.9, "healthy -> down", "origin")
    assert run.asked(72.9) == ASKS
    assert run.state.flap.penalty > POLICY.flap_penalty
    run.every(0.25, 73.25, 120, "ping", "canary", "tick")
    assert run.changes()[-2:] == ["down -> probation", "probation -> healthy"]


def test_another_one_long_after_is_a_new_suspicion() -> None:
    assert cleared().symptom(73.1, STATUS).health_state() is HealthState.SUSPECT


def test_the_next_read_that_fails_after_the_fence_was_lifted_counts_at_once() -> None:
    assert cleared().symptom(13.05, STATUS).health_state() is HealthState.DOWN


def test_what_happened_before_the_fence_was_lifted_is_old() -> None:
    assert cleared().symptom(13.2, STATUS, at=12.9).health_state() is HealthState.HEALTHY


def test_a_data_path_that_is_silent_at_the_end_does_not_clear_what_reads_have_told() -> None:
    run = healthy().symptom(10.0, STATUS).at(10.5, CanaryOk(10.2, 0.3))
    run.at(12.9, CanaryFailed(11.7, SILENT, ""))
    assert run.health_state() is HealthState.DOWN  # two that see different things


def test_without_any_answer_the_suspicion_ends_but_is_not_forgotten() -> None:
    run = healthy().symptom(10.0, STATUS).at(13.0, Tick())
    assert run.state.reason == "the suspicion was not confirmed"
    assert run.symptom(20.0, STATUS).health_state() is HealthState.DOWN


def test_the_retries_of_reads_that_had_failed_already_neither_confirm_nor_refute() -> None:
    run = healthy().symptom(10.0, STATUS)
    for at in (9.9, 10.1, 10.5, 11.0, 11.9, 12.0):
        run.symptom(12.0, STATUS, at=at)
    assert run.health_state() is HealthState.SUSPECT
    assert run.state.fence is not None
    assert run.state.fence.met == ()
    assert run.state.symptom_refuted == frozenset()


def test_symptoms_that_go_on_behind_the_fence_come_from_the_origin_and_count_no_more() -> None:
    run = healthy().symptom(10.0, STATUS).at(10.1, PingOk(10.1, 0.001), CanaryOk(10.1, 0.001))
    for at in (12.1, 12.2, 12.3):
        run.symptom(at, STATUS)
    assert run.told[-1] == (12.3, "suspect -> healthy", "mirror")
    run.symptom(20.0, STATUS).symptom(612.0, STATUS)
    assert run.health_state() is HealthState.HEALTHY
    assert run.symptom(613.0, STATUS).health_state() is HealthState.SUSPECT


def test_what_the_origin_gives_excuses_no_other_kind() -> None:
    run = healthy().symptom(10.0, STATUS).at(10.1, CanaryOk(10.1, 0.001))
    for at in (12.1, 12.2, 12.3):
        run.symptom(at, SymptomKind.DECODE)
    assert run.health_state() is HealthState.SUSPECT
    for at in (12.4, 12.5, 12.6):
        run.symptom(at, STATUS)
    assert run.state.symptom_refuted == {STATUS}
    assert run.symptom(20.0, SymptomKind.DECODE).health_state() is HealthState.DOWN


def test_a_second_kind_joins_those_that_count_no_more() -> None:
    run = healthy().symptom(10.0, STATUS).at(10.1, CanaryOk(10.1, 0.001))
    for at in (12.1, 12.2, 12.3):
        run.symptom(at, STATUS)
    run.symptom(100.0, SymptomKind.CUT).at(100.1, CanaryOk(100.05, 0.001))
    for at in (102.1, 102.2, 102.3):
        run.symptom(at, SymptomKind.CUT)
    assert run.state.symptom_refuted == {STATUS, SymptomKind.CUT}


def test_an_outage_that_the_origin_explains_goes_the_normal_way_back() -> None:
    run = fenced_for_symptoms()
    for at in (22.1, 23.0, 24.0):
        run.symptom(at, STATUS)
    assert run.state.symptom_refuted == {STATUS}
    assert run.state.fence is not None
    assert run.state.fence.met == ()
    run.every(0.25, 24.25, 60, "ping", "canary", "tick")
    assert run.changes()[-2:] == ["down -> probation", "probation -> healthy"]


def test_a_wrong_outage_costs_the_mirror_nothing_once_the_origin_explains_it() -> None:
    run = fenced_for_symptoms()
    assert run.state.flap.penalty > POLICY.flap_penalty
    for at in (22.1, 23.0, 24.0):
        run.symptom(at, STATUS)
    assert run.state.flap == Flap()


def test_a_fence_that_the_origin_explains_while_it_is_tentative_costs_nothing() -> None:
    run = healthy().symptom(10.0, STATUS).at(10.1, CanaryOk(10.1, 0.001))
    for at in (12.1, 12.2, 12.3):
        run.symptom(at, STATUS)
    assert run.health_state() is HealthState.HEALTHY
    assert run.state.flap == Flap()


def test_an_outage_that_others_have_seen_too_is_not_given_back() -> None:
    run = healthy().at(9.0, BAD).at(10.0, CanaryFailed(9.9, SILENT, "")).symptom(10.1, STATUS).at(10.1, GOOD)
    assert run.health_state() is HealthState.DOWN
    for at in (12.2, 12.3, 12.4):
        run.symptom(at, STATUS)
    assert run.state.symptom_refuted == {STATUS}
    assert run.state.flap.penalty == POLICY.flap_penalty


def test_the_penalty_for_one_kind_stays_where_the_origin_explains_another() -> None:
    run = cleared().symptom(20.0, SymptomKind.DECODE)
    for at in (22.1, 23.0, 24.0):
        run.symptom(at, SymptomKind.DECODE)
    assert run.state.flap == Flap(POLICY.flap_suspicion, 13.0)
    run = healthy().at(9.0, BAD).symptom(10.0, STATUS).symptom(10.1, SymptomKind.DECODE)
    run.at(10.1, GOOD, CanaryOk(10.1, 0.001))
    for at in (12.2, 12.3, 12.4):
        run.symptom(at, STATUS)
    assert (run.health_state(), run.state.flap) == (HealthState.HEALTHY, Flap(POLICY.flap_suspicion, 12.4))


@settings(max_examples=200, deadline=None)
@given(
    outages=st.lists(st.floats(0.0, 900.0), max_size=4),
    kind=st.sampled_from(HARD),
    gap_s=st.floats(4.0, 59.0),
    later_s=st.floats(2.1, 200.0),
)
def test_what_reads_alone_have_raised_leaves_no_trace_once_the_origin_explains_it(
    outages: list[float], kind: SymptomKind, gap_s: float, later_s: float
) -> None:
    flap = Flap()
    for at in sorted(outages):
        flap = after_outage(flap, at, POLICY)
    run = healthy()
    run.state = replace(run.state, flap=released(flap, 900.0, POLICY))
    run.symptom(1000.0, kind).every(0.5, 1000.5, 1003.0, "ping", "canary", "tick")
    run.symptom(1000.0 + gap_s, kind)
    assert run.health_state() is HealthState.DOWN
    now = 1000.0 + gap_s + later_s
    for _ in range(3):
        run.at(now, Symptom(kind, "", now))
    assert run.state.flap == released(flap, 900.0, POLICY)


def test_an_origin_that_is_overrun_after_the_mirrors_death_does_not_excuse_the_mirror() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, ""), CanaryFailed(10.0, REFUSED, ""))
    for at in (13.0, 14.0, 15.0):
        run.symptom(at, STATUS)
    assert run.state.symptom_refuted == frozenset()


def test_without_a_fence_symptoms_keep_a_mirror_down() -> None:
    run = cleared().at(14.0, BAD).symptom(20.0, STATUS)
    assert (run.health_state(), run.state.fence) == (HealthState.DOWN, None)
    run.every(0.25, 20.25, 29.0, "ping", "canary").symptom(29.1, STATUS)
    assert (run.state.oks, run.state.failed_at) == (0, 29.1)


def test_two_symptoms_of_one_incident_where_no_fence_can_be_raised_are_one_suspicion() -> None:
    run = healthy().at(9.0, ModeChanged(Mode.NATIVE, "")).symptom(10.0, STATUS).symptom(10.4, SymptomKind.CUT)
    assert run.health_state() is HealthState.SUSPECT
    assert run.state.blamed == {STATUS, SymptomKind.CUT}


def test_a_read_that_fails_while_a_canary_is_doubted_holds_the_suspicion() -> None:
    run = healthy().at(9.0, BAD)
    run.at(10.0, CanaryFailed(8.8, SILENT, ""))
    run.at(10.1, CanaryOk(8.8, 1.3))
    run.symptom(10.2, STATUS)
    run.at(10.4, CanaryOk(10.3, 0.1))
    assert run.health_state() is HealthState.SUSPECT


# Reads that nydusd has saved by itself


def test_reads_that_fall_back_ask_the_mirror_and_no_registry_however_many_they_are() -> None:
    run = healthy()
    for read in range(120):
        run.symptom(10.0 + 2 * read, FALLBACK)
    assert {type(effect) for _, effect in run.done} == {AskCanary, AskOwner}


def test_two_reads_that_fell_back_within_a_second_fence_until_a_canary_is_clean() -> None:
    run = healthy().symptom(10.0, FALLBACK).symptom(10.9, FALLBACK).at(11.0, CanaryOk(10.95, 0.002))
    assert run.told == [(10.9, "healthy -> suspect", "origin"), (11.0, "suspect -> healthy", "mirror")]
    # They were wrong: now they only ask, as long as canaries answer.
    run.at(20.0, CanaryOk(20.0, 0.002)).symptom(20.1, FALLBACK).symptom(20.2, FALLBACK)
    assert run.health_state() is HealthState.HEALTHY


def test_two_reads_that_fell_back_long_after_each_other_only_ask() -> None:
    assert healthy().symptom(10.0, FALLBACK).symptom(11.5, FALLBACK).health_state() is HealthState.HEALTHY


def test_a_read_that_fell_back_beside_a_failing_ping_confirms_it() -> None:
    run = healthy().at(9.0, BAD).at(10.0, PingFailed(9.9, REFUSED, "")).symptom(10.1, FALLBACK)
    assert run.health_state() is HealthState.DOWN


def test_the_fences_own_doing_is_not_held_against_the_mirror() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).symptom(10.1, FALLBACK).symptom(10.2, FALLBACK)
    run.at(10.3, CanaryOk(10.25, 0.002))
    run.symptom(10.5, FALLBACK).symptom(11.2, FALLBACK, at=10.9)
    assert run.changes() == ["healthy -> suspect", "suspect -> healthy"]


# The mirror's own counters


def test_counters_ask_for_a_canary_and_are_hard_where_nydusds_lines_cannot_be_read() -> None:
    run = healthy().symptom(10.0, COUNTER)
    assert run.done == [(10.0, AskCanary())]
    run.at(20.0, SymptomsUnknown("the journal dropped messages")).symptom(20.1, COUNTER)
    assert run.health_state() is HealthState.SUSPECT
    run.at(20.2, CanaryOk(20.15, 0.001), SymptomsUnknown(""))
    assert run.health_state() is HealthState.SUSPECT
    run.at(23.1, Tick()).symptom(23.2, COUNTER, at=23.0)
    assert run.health_state() is HealthState.HEALTHY


def test_before_anything_was_said_of_nydusds_lines_their_silence_means_nothing() -> None:
    assert Run().state.symptoms_unknown


def test_the_tentative_fence_of_a_symptom_is_not_prolonged_by_more_of_them() -> None:
    run = healthy().symptom(10.0, STATUS).symptom(11.0, STATUS).every(0.5, 11.5, 13.0, "tick")
    leases = [
        (at, effect.lease_s)
        for at, effect in run.fence_log()
        if isinstance(effect, (RaiseFence, ExtendFence))
    ]
    assert leases == [(10.0, 3.0), (11.0, 2.0), (12.0, 1.0)]
    assert run.fences()[-1] == (13.0, LiftFence())


def test_symptoms_in_a_mirror_that_was_never_well_make_it_down_until_it_answers() -> None:
    run = Run().symptom(1.0, STATUS).at(4.0, Tick())
    assert run.health_state() is HealthState.DOWN
    run.at(5.0, PingOk(5.0, 0.001), CanaryOk(5.0, 0.001))
    assert run.health_state() is HealthState.HEALTHY
