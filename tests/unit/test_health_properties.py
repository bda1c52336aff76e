"""Properties of the health machine that hold for every sequence of events."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

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
from agent.health.machine import step
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.route import route
from agent.health.state import ExtendFence, LiftFence, RaiseFence, State, Verdict

POLICY = Policy(return_delay_s=30.0)

_ago = st.floats(0.0, 2.0)
_failures = st.sampled_from(Failure)
_events = st.one_of(
    st.builds(PingOk, _ago, st.just(0.001)),
    st.builds(PingFailed, _ago, _failures, st.just("")),
    st.builds(CanaryOk, _ago, st.just(0.002)),
    st.builds(CanaryFailed, _ago, _failures, st.just("")),
    st.just(SentinelClosed("")),
    st.builds(OwnerSeen, st.sampled_from(Owner), st.just("")),
    st.builds(OriginSeen, st.sampled_from([True, False, None]), st.just("")),
    st.just(LoopLate(0.2)),
    st.just(ClockJump(5.0)),
    st.builds(Pinned, st.sampled_from([Route.MIRROR, Route.ORIGIN, None])),
    st.builds(ModeChanged, st.sampled_from(Mode), st.just("")),
    st.just(Adopted(5.0)),
    st.just(FenceFailed("")),
    st.just(Symptom(SymptomKind.CUT, "", 0.0)),
    st.just(Tick()),
)
_history = st.lists(st.tuples(st.floats(0.0, 5.0), _events), max_size=60)


def _dated(event: Event, now: float) -> Event:
    match event:
        case PingOk() | PingFailed() | CanaryOk() | CanaryFailed():
            return replace(event, started=now - event.started)
        case _:
            return event


@settings(max_examples=400, deadline=None)
@given(_history)
def test_the_mirror_is_never_fenced_where_it_must_not_be_and_never_for_longer_than_the_lease(
    history: list[tuple[float, Event]],
) -> None:
    state, now, up = State(), 0.0, False
    for gap, event in history:
        now += gap
        state, effects = step(state, _dated(event, now), now, POLICY)
        for effect in effects:
            match effect:
                case RaiseFence():
                    assert not up
                    up = True
                    assert 0 < effect.lease_s <= (POLICY.tentative_s if effect.tentative else POLICY.lease_s)
                case ExtendFence():
                    assert up or isinstance(event, (Adopted, FenceFailed))
                    up = True
                    assert 0 < effect.lease_s <= (POLICY.tentative_s if effect.tentative else POLICY.lease_s)
                case LiftFence():
                    up = False
                case _:
                    pass
        if isinstance(event, FenceFailed):
            up = state.fence is not None
        assert (state.fence is not None) == up
        foreign = state.local and state.owner is Owner.FOREIGN
        if state.fence is not None:
            assert state.mode is Mode.FENCE
            assert state.pin is not Route.MIRROR
            assert state.origin is True or foreign or state.pin is Route.ORIGIN
            assert route(state) is Route.ORIGIN
        if state.verdict in (Verdict.HEALTHY, Verdict.UNKNOWN) and state.pin is None and not foreign:
            assert state.fence is None


@settings(max_examples=150, deadline=None)
@given(_history)
def test_whatever_happened_a_mirror_that_is_well_is_used_again(history: list[tuple[float, Event]]) -> None:
    state, now = State(), 0.0
    for gap, event in history:
        now += gap
        state, _ = step(state, _dated(event, now), now, POLICY)
    end = now + 15 * 60 + POLICY.return_delay_s + 30
    for event in (Pinned(None), ModeChanged(Mode.FENCE, ""), OwnerSeen(Owner.OK, ""), OriginSeen(True, "")):
        state, _ = step(state, event, now, POLICY)
    while now < end:
        now += 1.0
        for event in (PingOk(now, 0.001), CanaryOk(now, 0.002), Tick()):
            state, _ = step(state, event, now, POLICY)
    assert state.verdict is Verdict.HEALTHY
    assert state.fence is None


@settings(max_examples=300, deadline=None)
@given(_history)
def test_two_hard_failures_in_succession_always_end_in_down(history: list[tuple[float, Event]]) -> None:
    state, now = State(), 0.0
    for gap, event in history:
        now += gap
        state, _ = step(state, _dated(event, now), now, POLICY)
    for _ in range(2):
        state, _ = step(state, CanaryFailed(now, Failure.REFUSED, ""), now, POLICY)
    assert state.verdict is Verdict.DOWN
