"""The health machine: `step(state, event, now, policy) -> (state, effects)`. Pure: no clock, no sockets.

Fence first, confirm after: the first evidence makes the mirror suspect and raises a short tentative fence, a canary
or more evidence confirms it (down), a clean canary refutes it (healthy). The way back is slow on purpose: successes,
dwell, a canary, then this node's slot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from agent.health import damping, patience
from agent.health.evidence import (
    Adopted,
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
    OwnerSeen,
    PingFailed,
    PingOk,
    Pinned,
    SentinelClosed,
    Symptom,
    SymptomsUnknown,
    Tick,
)
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.route import route, route_reason, settle
from agent.health.state import (
    NEVER,
    AskCanary,
    AskOrigin,
    AskOwner,
    Cause,
    Effect,
    Fence,
    State,
    Transition,
    Verdict,
)

Asked: TypeAlias = tuple[State, tuple[Effect, ...]]


def step(state: State, event: Event, now: float, policy: Policy) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what must be done about it, fence first."""
    judged, asks = _judge(state, event, now, policy)
    recovered = _recover(judged, now, policy)
    settled, acts = settle(recovered, now, policy)
    return settled, (*acts, *asks)


def transition(before: State, after: State) -> Transition | None:
    """What is to be told between two states; None where neither the verdict nor the route changed."""
    was, is_ = route(before), route(after)
    if before.verdict is after.verdict and was is is_:
        return None
    matters = after.mode is not Mode.UNKNOWN
    return Transition(
        before.verdict, after.verdict, was, is_, route_reason(after), after.evidence, matters, after.cause
    )


def _judge(state: State, event: Event, now: float, policy: Policy) -> Asked:  # noqa: C901 - one arm per kind of event
    match event:
        case PingOk():
            return _ping_ok(state, event, now, policy), ()
        case PingFailed():
            return _ping_failed(state, event, now, policy)
        case CanaryOk():
            return _canary_ok(state, event, now, policy), ()
        case CanaryFailed():
            return _canary_failed(state, event, now, policy)
        case SentinelClosed():
            return _sentinel_closed(state, event, now, policy)
        case OwnerSeen():
            return _owner_seen(state, event, now, policy)
        case OriginSeen():
            return replace(state, origin=event.good, origin_detail=event.detail), ()
        case LoopLate():
            return _late(state, event, now, policy)
        case ClockJump():
            return replace(state, oks=0, ping_soft=0, canary_soft=0, late=0), ()
        case Pinned():
            return replace(state, pin=event.route, pin_reason=event.reason), ()
        case ModeChanged():
            return replace(state, mode=event.mode, mode_reason=event.reason), ()
        case Adopted():
            return _adopted(state, event, now), ()
        case FenceFailed():
            return replace(state, fence=None, fence_error=event.reason, fence_failed_at=now), ()
        case MirrorEnded():
            why = "the process that holds the mirror's listener has ended"
            return _bad(state, Failure.CLOSED, why, event.detail, now, policy)
        case Symptom():
            return state, (AskCanary(),)
        case SymptomsUnknown():
            return replace(state, symptoms_unknown=event.reason), ()
        case Tick():
            return state, ()
        case _:
            assert_never(event)


# Evidence for the mirror


def _ping_ok(state: State, event: PingOk, now: float, policy: Policy) -> State:
    pace = patience.learned(state.ping_pace, event.latency_s, now, patience.ping_window_s(state, policy), policy)
    state = replace(state, ping_pace=pace)
    return replace(state, ping_ok=True, ping_refuted=False, ping_soft=0, late=0, oks=state.oks + 1)


def _canary_ok(state: State, event: CanaryOk, now: float, policy: Policy) -> State:
    # Successes are counted by the pings, which have a beat; by the canaries only where the ping port is known to fail.
    oks = state.oks + 1 if state.ping_refuted else state.oks
    window_s = patience.canary_window_s(state, policy)
    pace = patience.learned(state.canary_pace, event.latency_s, now, window_s, policy)
    seen = replace(state, canary_pace=pace, canary_ok=event.started, canary_soft=0, oks=oks)
    if state.verdict is Verdict.SUSPECT and event.started >= state.since and state.owner_fits:
        return _cleared(seen, "a canary came back clean", now, policy)
    return seen


def _cleared(state: State, why: str, now: float, policy: Policy) -> State:
    """The suspicion was wrong; what misled is believed less."""
    return replace(
        _moved(state, Verdict.HEALTHY, Cause.REFUTED, why, "", now),
        ping_soft=0,
        canary_soft=0,
        ping_refuted=state.ping_ok is False,
        grace_until=now + policy.grace_s,
        sentinel_trusted=state.sentinel_trusted and not state.suspected_by_sentinel,
        was_well=True,
    )


# Evidence against it


def _ping_failed(state: State, event: PingFailed, now: float, policy: Policy) -> Asked:
    seen = replace(state, ping_ok=False)
    if state.ping_refuted:
        return seen, (AskCanary(),) if state.verdict is Verdict.HEALTHY else ()
    if not event.failure.hard:
        seen = replace(seen, ping_soft=state.ping_soft + 1)
    return _bad(seen, event.failure, f"ping {event.failure}", event.detail, now, policy)


def _canary_failed(state: State, event: CanaryFailed, now: float, policy: Policy) -> Asked:
    seen = state if event.failure.hard else replace(state, canary_soft=state.canary_soft + 1)
    return _bad(seen, event.failure, f"canary {event.failure}", event.detail, now, policy)


def _sentinel_closed(state: State, event: SentinelClosed, now: float, policy: Policy) -> Asked:
    if not state.sentinel_trusted:
        return state, (AskOwner(), AskCanary())
    by_sentinel = state.verdict in (Verdict.UNKNOWN, Verdict.HEALTHY)
    judged, asks = _bad(state, Failure.CLOSED, "the mirror closed the sentinel connection", event.detail, now, policy)
    return replace(judged, suspected_by_sentinel=by_sentinel or state.suspected_by_sentinel), asks


def _owner_seen(state: State, event: OwnerSeen, now: float, policy: Policy) -> Asked:
    seen = replace(state, owner=event.owner, local=state.local or event.owner is Owner.OK)
    if event.owner is Owner.FOREIGN:
        if state.verdict is Verdict.DOWN:
            return replace(seen, failed_at=now, oks=0), ()
        down = _down(seen, Cause.OWNER, "a foreign process listens on the mirror's port", event.detail, now, policy)
        return replace(down, failed_at=now, oks=0), (AskOrigin(),)
    if event.owner is Owner.NONE and seen.local:
        return _bad(seen, Failure.REFUSED, "nobody listens on the mirror's port any more", event.detail, now, policy)
    return seen, ()


def _late(state: State, event: LoopLate, now: float, policy: Policy) -> Asked:
    late = state.late + 1
    if late <= policy.late_rounds:
        return replace(state, late=late), ()
    detail = f"no answer in {late} rounds in which the agent was late too, by up to {event.late_s * 1000:.0f} ms"
    silent = replace(state, late=0, ping_ok=False, ping_soft=state.ping_soft + 1)
    return _bad(silent, Failure.SILENT, f"ping {Failure.SILENT}", detail, now, policy)


def _bad(state: State, failure: Failure, why: str, detail: str, now: float, policy: Policy) -> Asked:
    seen = replace(state, oks=0, failed_at=now)
    enough = failure.hard or seen.soft >= policy.fall
    match state.verdict:
        case Verdict.UNKNOWN | Verdict.HEALTHY:
            if not enough and now < state.grace_until:
                return seen, (AskCanary(),)
            suspect = replace(
                _moved(seen, Verdict.SUSPECT, Cause(failure), why, detail, now), suspected_by_sentinel=False
            )
            return suspect, (AskCanary(), AskOwner(), AskOrigin())
        case Verdict.SUSPECT:
            return (_down(seen, Cause(failure), why, detail, now, policy), ()) if enough else (seen, (AskCanary(),))
        case Verdict.PROBATION:
            return _moved(seen, Verdict.DOWN, Cause(failure), why, detail, now), ()
        case Verdict.DOWN:
            return seen, ()
        case _:
            assert_never(state.verdict)


def _down(state: State, cause: Cause, why: str, detail: str, now: float, policy: Policy) -> State:
    flap = damping.after_outage(state.flap, now, policy) if state.was_well else state.flap
    down = _moved(state, Verdict.DOWN, cause, why, detail, now)
    return replace(down, flap=flap, sentinel_trusted=True, suspected_by_sentinel=False)


def _adopted(state: State, event: Adopted, now: float) -> State:
    """A former run's fence is up: it stays up, as after an outage, until the mirror has earned its return.

    The origin passes for good until it is asked: that run had asked it. The fence counts as long due for renewal.
    """
    why = "the fence of a former run is up"
    down = _moved(state, Verdict.DOWN, Cause.ADOPTED, why, f"{event.left_s:.1f} s were left of its lease", now)
    return replace(down, was_well=True, origin=True, fence=Fence(tentative=False, renewed=NEVER))


# The way back, which needs time as well as evidence


def _recover(state: State, now: float, policy: Policy) -> State:
    match state.verdict:
        case Verdict.HEALTHY:
            return state
        case Verdict.UNKNOWN:
            return _healthy(state, _first(policy), now) if _answers(state, policy) else state
        case Verdict.SUSPECT:
            return _unconfirmed(state, now, policy)
        case Verdict.DOWN:
            return _rising(state, now, policy)
        case Verdict.PROBATION:
            due = now >= state.return_at and _answers(state, policy)
            return _healthy(state, "it is well again, and this node's turn to return has come", now) if due else state
        case _:
            assert_never(state.verdict)


def _answers(state: State, policy: Policy) -> bool:
    """One success and, where there are canaries, a clean one since the last failure; the owner is right."""
    return state.oks > 0 and state.owner_fits and (not policy.canary or state.canary_ok > state.failed_at)


def _first(policy: Policy) -> str:
    return "a ping and a canary were answered" if policy.canary else "a ping was answered"


def _unconfirmed(state: State, now: float, policy: Policy) -> State:
    if not policy.canary and state.oks >= policy.clean_pings and state.owner_fits:
        return _cleared(state, f"{state.oks} pings in succession were answered", now, policy)
    if now - state.since < policy.tentative_s:
        return state
    before = Verdict.HEALTHY if state.was_well else Verdict.UNKNOWN
    return _moved(state, before, Cause.REFUTED, "the suspicion was not confirmed", state.evidence, now)


def _rising(state: State, now: float, policy: Policy) -> State:
    if not _answers(state, policy):
        return state
    if not state.was_well:
        return _healthy(state, f"{_first(policy)} for the first time", now)
    if state.oks < policy.rise or now - state.since < policy.dwell_s or damping.held(state.flap, now, policy):
        return state
    slot = f"it answers again; this node returns in {policy.return_delay_s:.1f} s"
    moved = _moved(state, Verdict.PROBATION, Cause.RECOVERED, slot, f"{state.oks} successes in succession", now)
    return replace(moved, flap=damping.released(state.flap, now, policy), return_at=now + policy.return_delay_s)


def _healthy(state: State, why: str, now: float) -> State:
    cause = Cause.RECOVERED if state.was_well else Cause.FIRST
    return replace(_moved(state, Verdict.HEALTHY, cause, why, "", now), was_well=True, ping_soft=0, canary_soft=0)


def _moved(state: State, verdict: Verdict, cause: Cause, reason: str, evidence: str, now: float) -> State:
    return replace(state, verdict=verdict, cause=cause, since=now, reason=reason, evidence=evidence)
