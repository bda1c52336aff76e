"""What holds for every sequence of events: a model beside the machine, which believes only its effects."""

from __future__ import annotations

import os
import typing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.health.evidence import (
    Adopted,
    AgentInWant,
    CanaryFailed,
    CanaryOk,
    ClockJump,
    Event,
    Failure,
    FenceFailed,
    LoopLate,
    MirrorEnded,
    Mode,
    ModeChanged,
    OriginSeen,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Pinned,
    Probe,
    Route,
    SentinelClosed,
    Symptom,
    SymptomKind,
    SymptomsUnknown,
    Tick,
)
from agent.health.machine import at_rest, step, transition
from agent.health.route import prospect, route, route_reason, settle
from agent.health.state import (
    AskCanary,
    AskOrigin,
    AskOwner,
    Cause,
    Effect,
    ExtendFence,
    HealthState,
    LiftFence,
    RaiseFence,
    State,
    held,
    tentative_s,
)
from agent.health.transitions import recover
from tests.unit.health_run import FENCE, GOOD, POLICY, REFUSED, Run, allowed_fences, healthy

LENGTH = int(os.environ.get("NYDUS_AGENT_TEST_LENGTH", "1"))
"""How many times as many examples: `make test-model` has more than `make test`."""

_ago = st.floats(0.0, 3.0)
_failures = st.sampled_from(Failure)
_evidence = st.one_of(
    st.builds(PingOk, _ago, st.sampled_from([0.001, 0.5, 1.0, 2.9])),
    st.builds(PingFailed, _ago, _failures, st.just("")),
    st.builds(CanaryOk, _ago, st.sampled_from([0.002, 1.0, 2.9])),
    st.builds(CanaryFailed, _ago, _failures, st.just("")),
    st.just(SentinelClosed("")),
    st.just(MirrorEnded("")),
    st.builds(OwnerSeen, st.sampled_from([Owner.OK, Owner.NONE, Owner.UNKNOWN]), st.just("")),
    st.builds(LoopLate, st.just(0.2), st.sampled_from(Probe)),
    st.just(AgentInWant("descriptors")),
    st.just(ClockJump(5.0)),
    st.builds(Symptom, st.sampled_from(SymptomKind), st.just(""), _ago),
    st.builds(SymptomsUnknown, st.sampled_from(["", "dropped"])),
    st.just(Tick()),
)
_circumstances = st.one_of(
    st.just(OwnerSeen(Owner.FOREIGN, "")),
    st.builds(OriginSeen, st.sampled_from([True, False, None]), st.just("")),
    st.builds(Pinned, st.sampled_from([Route.MIRROR, Route.ORIGIN, None])),
    st.builds(ModeChanged, st.sampled_from(Mode), st.just("")),
    st.just(FenceFailed("")),
)
_history = st.lists(st.tuples(st.floats(0.0, 5.0), st.one_of(_evidence, _circumstances)), max_size=60)


def dated(event: Event, now: float) -> Event:
    """The event with its time before `now`."""
    match event:
        case PingOk() | PingFailed() | CanaryOk() | CanaryFailed():
            return replace(event, started=now - event.started)
        case Symptom():
            return replace(event, at=now - event.at)
        case _:
            return event


class Model(RuleBasedStateMachine):
    """The fence as the kernel has it, known from the effects alone, and everything that must hold of it."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.now = 0.0
        self.up = False
        self.until = 0.0

    @initialize(start=st.sampled_from([(), (FENCE,), (FENCE, GOOD), (FENCE, Adopted(5.0))]))
    def begin(self, start: tuple[Event, ...]) -> None:
        for event in start:
            self.feed(event)

    @rule(event=_evidence)
    def evidence(self, event: Event) -> None:
        self.feed(event)

    @rule(event=_circumstances)
    def circumstances(self, event: Event) -> None:
        self.feed(event)

    @rule(ticks=st.integers(1, 40))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now += 0.25
            # A tentative fence may lapse by itself just before the tick that would have lifted it.
            held = self.state.fence is not None and not self.state.fence.tentative
            assert not held or self.until > self.now, "the lease lapsed although the fence was called for"
            self.feed(Tick())

    @rule(seconds=st.integers(2, 8))
    def well(self, seconds: int) -> None:
        """The mirror answers for a while, or the deeper states are never reached."""
        for _ in range(seconds * 4):
            self.now += 0.25
            self.feed(PingOk(self.now, 0.001))
            self.feed(CanaryOk(self.now, 0.001))

    def feed(self, event: Event) -> None:
        before = self.state
        self.state, effects = step(before, dated(event, self.now), self.now, POLICY)
        adopts = isinstance(event, (Adopted, FenceFailed))
        for effect in effects:
            self.carry_out(effect, adopts=adopts)
        if isinstance(event, FenceFailed) and self.state.fence is None:
            self.up = False
        assert (self.state.fence is not None) == self.up
        self.changed(before)

    def carry_out(self, effect: Effect, *, adopts: bool) -> None:
        most_s = min(POLICY.lease_s, tentative_s(self.state, POLICY))
        match effect:
            case RaiseFence():
                assert not self.up
            case ExtendFence():
                assert self.up or adopts
            case LiftFence():
                assert self.up
                self.up = False
            case AskCanary() | AskOrigin() | AskOwner():
                pass
        if isinstance(effect, (RaiseFence, ExtendFence)):
            assert 0 < effect.lease_s <= (most_s if effect.tentative else POLICY.lease_s) + 1e-6
            self.up, self.until = True, self.now + effect.lease_s

    def changed(self, before: State) -> None:
        told = transition(before, self.state)
        moved = (before.health_state, route(before)) != (self.state.health_state, route(self.state))
        assert (told is not None) == moved
        if told is not None:
            assert told.reason
            assert told.cause in Cause

    @invariant()
    def never_no_route(self) -> None:
        """A fence only where reads have another way, or where the operator or a foreign process leave none
        anyway.
        """
        state = self.state
        foreign = state.owner is Owner.FOREIGN
        if state.fence is None:
            return
        assert state.mode is Mode.FENCE
        assert route(state) is Route.ORIGIN
        assert state.pin is not Route.MIRROR
        assert state.origin is True or foreign or state.pin is Route.ORIGIN

    @invariant()
    def a_good_health_state_leaves_the_mirror_alone(self) -> None:
        state = self.state
        well = state.health_state in (HealthState.HEALTHY, HealthState.UNKNOWN)
        assert state.owner is not Owner.FOREIGN or state.health_state is HealthState.DOWN
        if well and state.pin is None:
            assert state.fence is None

    @invariant()
    def at_rest_no_time_that_passes_changes_anything(self) -> None:
        if at_rest(self.state):
            for later in (0.0, POLICY.renew_s, POLICY.doubt_s, 10 * POLICY.doubt_s):
                now = self.now + later
                assert recover(self.state, now, POLICY) is self.state
                assert settle(self.state, now, POLICY) == (self.state, ())
                assert step(self.state, Tick(), now, POLICY) == (self.state, ())

    @invariant()
    def a_suspicion_ends(self) -> None:
        if self.state.health_state is HealthState.SUSPECT:
            assert self.now - self.state.since < tentative_s(self.state, POLICY) + 0.25
        assert bool(self.state.accusers) == (self.state.health_state is HealthState.SUSPECT)

    @invariant()
    def a_penalty_that_holds_is_served(self) -> None:
        flap = self.state.flap
        assert flap.penalty <= POLICY.flap_cap
        if held(flap, self.now, POLICY):
            assert self.state.health_state is HealthState.DOWN

    @invariant()
    def the_prospect_fits_the_route(self) -> None:
        found = prospect(self.state, self.now, POLICY)
        assert (not found.waits_for) == (route(self.state) is Route.MIRROR)
        assert found.seconds is None or found.seconds >= 0
        assert route_reason(self.state) or self.state.mode is not Mode.FENCE


def after(history: list[tuple[float, Event]]) -> tuple[State, float]:
    """The state, and the time, when all of it has happened."""
    state, now = State(), 0.0
    for gap, event in history:
        now += gap
        state, _ = step(state, dated(event, now), now, POLICY)
    return state, now


Model.TestCase.settings = settings(max_examples=60 * LENGTH, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


@settings(max_examples=60 * LENGTH, deadline=None)
@given(_history)
def test_whatever_happened_a_mirror_that_is_well_is_used_again_and_in_the_time_that_was_told(
    history: list[tuple[float, Event]],
) -> None:
    state, now = after(history)
    now += POLICY.renew_s  # a fence that could not be raised is tried again
    event: Event
    for event in (Pinned(None), ModeChanged(Mode.FENCE, ""), OwnerSeen(Owner.OK, ""), OriginSeen(True, "")):
        state, _ = step(state, event, now, POLICY)
    now += POLICY.renew_s  # a fence that could not be raised is tried again before anything is told
    state, _ = step(state, Tick(), now, POLICY)
    told = prospect(state, now, POLICY)
    assert told.seconds is not None
    end = now + told.seconds + POLICY.rise + 5 * POLICY.window_cap_s  # probes come once a second here
    while now < end:
        now += 1.0
        for event in (PingOk(now, 0.001), CanaryOk(now, 0.002), Tick()):
            state, _ = step(state, event, now, POLICY)
    assert state.health_state is HealthState.HEALTHY
    assert state.fence is None
    assert told.seconds <= 15 * 60 + POLICY.return_delay_s + 10


@settings(max_examples=100 * LENGTH, deadline=None)
@given(_history)
def test_two_hard_failures_of_the_data_path_in_succession_always_end_in_down(
    history: list[tuple[float, Event]],
) -> None:
    state, now = after(history)
    for _ in range(2):
        state, _ = step(state, CanaryFailed(now, Failure.REFUSED, ""), now, POLICY)
    assert state.health_state is HealthState.DOWN


@settings(max_examples=50 * LENGTH, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 1.0, 2.0, 10.0, 60.0]), _evidence), min_size=1, max_size=6))
def test_no_evidence_that_comes_again_and_again_makes_the_route_flap(beat: list[tuple[float, Event]]) -> None:
    run = healthy(replace(POLICY, return_delay_s=0.0))
    start = now = 10.0
    for _ in range(60):
        for gap, event in beat:
            now += gap
            run.at(now, dated(event, now))
        run.at(now + 0.01, PingOk(now, 0.001), CanaryOk(now, 0.001))
    raised = [effect for _, effect in run.fences() if isinstance(effect, RaiseFence)]
    assert len(raised) <= allowed_fences(run.policy, now - start)


# Each kind of event in each state

KINDS: tuple[type[Event], ...] = typing.get_args(Event)
EVENTS: dict[type[Event], tuple[Event, ...]] = {
    PingOk: (PingOk(59.9, 0.001), PingOk(58.0, 2.0)),
    PingFailed: tuple(PingFailed(59.9, failure, "") for failure in Failure),
    CanaryOk: (CanaryOk(59.9, 0.001), CanaryOk(1.0, 2.9)),
    CanaryFailed: tuple(CanaryFailed(59.9, failure, "") for failure in Failure),
    SentinelClosed: (SentinelClosed(""),),
    MirrorEnded: (MirrorEnded(""),),
    OwnerSeen: tuple(OwnerSeen(owner, "") for owner in Owner),
    OriginSeen: (OriginSeen(True, ""), OriginSeen(False, ""), OriginSeen(None, "")),
    LoopLate: (LoopLate(0.1), LoopLate(0.1, Probe.CANARY)),
    AgentInWant: (AgentInWant("descriptors"),),
    ClockJump: (ClockJump(1.0),),
    Pinned: (Pinned(Route.ORIGIN), Pinned(Route.MIRROR), Pinned(None)),
    ModeChanged: tuple(ModeChanged(mode, "") for mode in Mode),
    Adopted: (Adopted(5.0),),
    FenceFailed: (FenceFailed("no"),),
    Symptom: tuple(Symptom(kind, "", 60.0) for kind in SymptomKind),
    SymptomsUnknown: (SymptomsUnknown(""), SymptomsUnknown("dropped")),
    Tick: (Tick(),),
}


def in_health_state(health_state: HealthState) -> State:
    """A state with this health state at 60 s, reached by events."""
    death = (SentinelClosed("eof"), CanaryFailed(59.0, REFUSED, ""))
    match health_state:
        case HealthState.UNKNOWN:
            run = Run(POLICY, FENCE, GOOD)
        case HealthState.HEALTHY:
            run = healthy()
        case HealthState.SUSPECT:
            run = healthy().at(59.5, SentinelClosed("eof"))
        case HealthState.DOWN:
            run = healthy().at(59.0, *death)
        case HealthState.PROBATION:
            run = healthy().at(50.0, *death).every(0.25, 50.25, 59.0, "ping", "canary")
    assert run.health_state() is health_state
    return run.state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("health_state", list(HealthState))
def test_each_kind_of_event_is_taken_in_each_health_state(
    health_state: HealthState, kind: type[Event]
) -> None:
    for event in EVENTS[kind]:
        before = in_health_state(health_state)
        after, effects = step(before, event, 60.0, POLICY)
        assert after.health_state in ALLOWED[health_state], event
        raised = [effect for effect in effects if isinstance(effect, RaiseFence)]
        lifted = [effect for effect in effects if isinstance(effect, LiftFence)]
        assert bool(raised) == (before.fence is None and after.fence is not None and kind is not Adopted)
        assert bool(lifted) == (before.fence is not None and after.fence is None and kind is not FenceFailed)
        if raised:
            assert effects[0] == raised[0], "the fence comes first"


ALLOWED: dict[HealthState, frozenset[HealthState]] = {
    HealthState.UNKNOWN: frozenset({HealthState.UNKNOWN, HealthState.SUSPECT, HealthState.DOWN}),
    HealthState.HEALTHY: frozenset({HealthState.HEALTHY, HealthState.SUSPECT, HealthState.DOWN}),
    HealthState.SUSPECT: frozenset({HealthState.SUSPECT, HealthState.HEALTHY, HealthState.DOWN}),
    HealthState.DOWN: frozenset({HealthState.DOWN}),
    HealthState.PROBATION: frozenset({HealthState.PROBATION, HealthState.DOWN}),
}
"""What one event may make of each: a mirror that is down goes through probation, which takes time."""


@given(_history)
def test_successes_of_a_healthy_mirror_beyond_those_that_are_asked_for_make_no_difference(
    history: list[tuple[float, Event]],
) -> None:
    few, many = (healthy().every(0.25, 1.0, 10.0, "ping", "canary") for _ in range(2))
    many.state = replace(many.state, oks=many.state.oks + 1000)
    now = 10.0
    for gap, event in history:
        now += gap
        for run in (few, many):
            run.at(now, dated(event, now))
        assert prospect(few.state, now, POLICY) == prospect(many.state, now, POLICY)
    assert (few.told, few.causes, few.done) == (many.told, many.causes, many.done)


def test_an_answer_in_time_of_a_healthy_mirror_changes_nothing_that_the_next_state_depends_on() -> None:
    state = healthy().every(0.25, 1.0, 10.0, "ping", "canary").state
    owner = OwnerSeen(Owner.OK, "root")
    for event in (PingOk(10.2, 0.001), Tick(), owner):
        assert step(state, event, 10.25, POLICY) == (state, ())
        assert step(state, event, 10.25, POLICY)[0] is state
    assert state.oks == POLICY.rise


def test_a_mirror_that_is_well_and_answers_leaves_the_machine_at_rest() -> None:
    assert at_rest(healthy().state)
