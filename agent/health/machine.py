"""The health machine: `step(state, event, now, policy) -> (state, effects)`. Pure: no clock, no sockets.

Fence first, confirm after: the first evidence makes the mirror suspect and raises a short tentative fence, a
canary or more evidence confirms it (down), a clean canary refutes it (healthy). The way back is slow on
purpose. Here each kind of event is taken in; what follows from it is in `transitions`
(a suspicion, an outage, the way back), `symptoms` and `route`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

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
    SymptomsUnknown,
    Tick,
)
from agent.health.policy import Policy
from agent.health.route import route, route_cause, route_reason, settle
from agent.health.state import (
    NEVER,
    Accuser,
    AskCanary,
    AskOrigin,
    AskOwner,
    Cause,
    Effect,
    HealthState,
    RaisedFence,
    State,
    late,
    learned,
)
from agent.health.symptoms import symptom
from agent.health.transitions import Asked, Charge, accuse, canaries_speak, down, moved, recover


@dataclass(frozen=True, slots=True)
class Transition:
    """The health state or the route changed: what is logged, counted and kept as history."""

    before: HealthState
    after: HealthState
    route_before: Route
    route: Route
    reason: str
    evidence: str
    matters: bool = True
    """Something of ours uses the mirror; false before the first apply, when a node without one lacks
    nothing.
    """
    cause: Cause = Cause.FIRST
    """Of the route's change where the route changed, else of the health state's."""


def step(state: State, event: Event, now: float, policy: Policy) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what must be done about it, fence first."""
    taken, asks = _take(state, event, now, policy)
    if taken is state and at_rest(state):
        return state, asks
    recovered = recover(taken, now, policy)
    settled, acts = settle(recovered, now, policy)
    return settled, (*acts, *asks)


def at_rest(state: State) -> bool:
    """Whether no passing of time changes anything: nothing is waited for, and no fence is up or called for.
    So it is with nearly every event, on most days.
    """
    quiet = state.health_state is HealthState.HEALTHY and state.fence is None and not state.want
    return quiet and state.pin is None and state.owner is not Owner.FOREIGN


def transition(before: State, after: State) -> Transition | None:
    """What is to be told between two states; None where neither the health state nor the route changed."""
    if before is after:
        return None
    was, is_ = route(before), route(after)
    if after.cause is Cause.ADOPTED and before.health_state is not after.health_state:
        was = is_  # the fence was up all the time, so nothing moved
    if before.health_state is after.health_state and was is is_:
        return None
    matters = after.mode is not Mode.UNKNOWN
    cause = after.cause if was is is_ else route_cause(before, after)
    return Transition(
        before.health_state, after.health_state, was, is_, route_reason(after), after.evidence, matters, cause
    )


# One arm per kind of event.
def _take(state: State, event: Event, now: float, policy: Policy) -> Asked:  # noqa: C901
    match event:
        case Tick():
            over = state.want and now - state.want_at > policy.want_told_s
            return replace(state, want="") if over else state, ()
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
        case MirrorEnded():
            why = "the process that held the mirror's port has ended or stands still"
            judged, _ = accuse(state, Charge(Accuser.PROCESS, Cause.ENDED, why, event.detail), now, policy)
            return judged, (AskCanary(), AskOwner(), AskOrigin())
        case OwnerSeen():
            return _owner_seen(state, event, now, policy)
        case OriginSeen():
            return replace(state, origin=event.good, origin_detail=event.detail), ()
        case LoopLate():
            return _late(state, event, now, policy)
        case AgentInWant():
            return _in_want(state, event.detail, now), ()
        case ClockJump():
            return replace(
                state, oks=0, ping_bad=0, ping_soft=0, ping_late=0, canary_oks=0, canary_bad=0, canary_soft=0,
                canary_late=0,
            ), ()  # fmt: skip
        case Pinned():
            return replace(state, pin=event.route, pin_reason=event.reason, pin_until=event.until), ()
        case ModeChanged():
            return replace(state, mode=event.mode, mode_reason=event.reason), ()
        case Adopted():
            return _adopted(state, event, now), ()
        case FenceFailed():
            return replace(state, fence=None, fence_error=event.reason, fence_failed_at=now), ()
        case Symptom():
            return symptom(state, event, now, policy)
        case SymptomsUnknown():
            return replace(state, symptoms_unknown=event.reason), ()
        case _:
            assert_never(event)


# Evidence for the mirror


def _ping_ok(state: State, event: PingOk, now: float, policy: Policy) -> State:
    known, floor_s = state.ping_pace, policy.window_s
    pace = learned(known, event.started, event.latency_s, now, floor_s, policy)
    # A late answer says that the mirror lives. The round that it belongs to was lost all the same. None is
    # late that teaches nothing.
    was_late = pace is not known and late(known, event.started, event.latency_s, floor_s, policy)
    more = 0 if was_late else 1
    oks = state.oks + more
    if state.health_state is HealthState.HEALTHY:
        oks = min(oks, max(state.oks, policy.rise, policy.clean_pings))
    run = max(min(state.ping_bad, 0) - more, -policy.rise) if state.pings_down else 0
    well = state.ping_ok is True and not (state.ping_refuted or state.ping_bad or state.ping_late)
    if well and oks == state.oks and pace is known:
        return state  # four times a second: to make the same state anew was a quarter of what the daemon does
    return replace(
        state, ping_pace=pace, ping_ok=True, ping_refuted=False, ping_soft=0, ping_late=0, oks=oks,
        ping_bad=run, pings_down=state.pings_down and run > -policy.rise,
    )  # fmt: skip


def _canary_ok(state: State, event: CanaryOk, now: float, policy: Policy) -> State:
    floor_s = policy.canary_window_s
    pace = learned(state.canary_pace, event.started, event.latency_s, now, floor_s, policy)
    more = 0 if late(state.canary_pace, event.started, event.latency_s, floor_s, policy) else 1
    doubtful = (
        state.health_state is HealthState.HEALTHY and state.ping_ok is False
    )  # pings that are not believed as it is
    refuted = state.ping_refuted or (doubtful and event.started >= state.failed_at)
    # Successes are counted by the pings, which have a beat; by the canaries only where the ping port is known
    # to fail.
    return replace(
        state, canary_pace=pace, canary_ok=max(state.canary_ok, event.started), canary_bad=0, canary_soft=0,
        canary_late=0,
        canary_oks=state.canary_oks + more, oks=state.oks + more if refuted else state.oks,
        ping_refuted=refuted,
    )  # fmt: skip


# Evidence against it


def _in_want(state: State, detail: str, now: float) -> State:
    """What the agent lacks counts neither for the mirror nor against it."""
    return replace(state, want=detail, want_at=now)


def _not_made(state: State, detail: str, now: float, policy: Policy) -> State:
    """A probe that the agent could not make. Reads return by what probes tell after that."""
    wanting = _in_want(state, detail, now)
    match state.health_state:
        case HealthState.DOWN:
            return replace(wanting, oks=min(state.oks, policy.rise - 1), failed_at=now)
        case HealthState.PROBATION:
            return replace(wanting, oks=0, failed_at=now)
        case _:
            return wanting


def _ping_failed(state: State, event: PingFailed, now: float, policy: Policy) -> Asked:
    if event.failure is Failure.WANT:
        return _not_made(state, event.detail, now, policy), ()
    charge = _charge(Accuser.PING, event.failure, f"ping {event.failure}", event.detail)
    return _ping_lost(state, charge, event.started, now, policy)


def _ping_lost(state: State, charge: Charge, started: float, now: float, policy: Policy) -> Asked:
    speak = canaries_speak(state, now, policy)
    bad = min(max(state.ping_bad, 0) + 1, policy.fall)
    seen = replace(
        state, ping_ok=False, ping_refuted=state.ping_refuted and speak, ping_bad=bad,
        pings_down=state.pings_down or bad == policy.fall,
    )  # fmt: skip
    waiting = state.health_state in (HealthState.DOWN, HealthState.PROBATION)
    if waiting and speak and state.canary_oks >= policy.rise:
        # The data path has been well for long enough: a ping port that fails does not keep the mirror away.
        seen = replace(seen, ping_refuted=True, oks=max(state.oks, state.canary_oks))
    if seen.ping_refuted:
        return seen, ()
    if not charge.hard:
        silent = state.ping_silent if state.ping_soft else started
        seen = replace(seen, ping_soft=state.ping_soft + 1, ping_silent=silent)
    return accuse(seen, charge, now, policy)


_SOFT = frozenset({Failure.SILENT, Failure.WANT})
"""All others are hard: an answer that cannot come from a mirror that is well."""
_NOT_TAKEN = frozenset({Failure.SILENT, Failure.CLOSED, Failure.RESET, Failure.STATUS})
"""What mirrors make of a canary whose way back to our own endpoint is not taken, because the agent lacks
something.
"""


def _canary_failed(state: State, event: CanaryFailed, now: float, policy: Policy) -> Asked:
    if event.failure is Failure.WANT:
        return _not_made(state, event.detail, now, policy), ()
    excused = event.failure in _NOT_TAKEN and event.started < state.want_at + policy.want_canary_s
    if excused and state.canary_late < policy.late_rounds:
        return replace(state, canary_late=state.canary_late + 1), ()
    charge = _charge(Accuser.CANARY, event.failure, f"canary {event.failure}", event.detail)
    return _canary_lost(state, charge, event.started, now, policy)


def _canary_lost(state: State, charge: Charge, started: float, now: float, policy: Policy) -> Asked:
    seen = replace(state, canary_oks=0, canary_bad=state.canary_bad + charge.hard)
    if not charge.hard:
        silent = state.canary_silent if state.canary_soft else started
        seen = replace(seen, canary_soft=state.canary_soft + 1, canary_silent=silent)
    return accuse(seen, charge, now, policy)


def _charge(accuser: Accuser, failure: Failure, why: str, detail: str) -> Charge:
    return Charge(accuser, Cause(failure), why, detail, hard=failure not in _SOFT)


def _sentinel_closed(state: State, event: SentinelClosed, now: float, policy: Policy) -> Asked:
    # While reads are at the origin there is no hurry: pings and canaries tell whether that was the mirror's
    # end.
    if not state.sentinel_trusted or state.health_state in (HealthState.DOWN, HealthState.PROBATION):
        return state, (AskOwner(), AskCanary())
    why = "the mirror closed the sentinel connection"
    return accuse(state, Charge(Accuser.SENTINEL, Cause.CLOSED, why, event.detail), now, policy)


def _owner_seen(state: State, event: OwnerSeen, now: float, policy: Policy) -> Asked:
    local = state.local or event.owner is Owner.OK
    owner = event.owner
    if owner is Owner.FOREIGN and not (local or policy.loopback):
        # Behind a NodePort or ClusterIP any user's socket looks like that, and gets nothing.
        owner = Owner.UNKNOWN
    elif owner is Owner.UNKNOWN and state.owner is Owner.FOREIGN:
        owner = Owner.FOREIGN  # until the kernel tells otherwise
    same = owner is state.owner and local is state.local
    seen = state if same else replace(state, owner=owner, local=local)
    if owner is Owner.FOREIGN:
        return _foreign(seen, event, now, policy)
    waiting = state.health_state in (HealthState.DOWN, HealthState.PROBATION)
    if owner is Owner.NONE and seen.local and not waiting:
        why = "nobody listens on the mirror's port any more"
        return accuse(seen, Charge(Accuser.OWNER, Cause.OWNER, why, event.detail), now, policy)
    return seen, ()


def _foreign(state: State, event: OwnerSeen, now: float, policy: Policy) -> Asked:
    seen = replace(state, failed_at=now, oks=0)
    why = "a foreign process listens on the mirror's port"
    if state.health_state is HealthState.DOWN:
        return replace(seen, cause=Cause.OWNER, reason=why, evidence=event.detail), ()
    return down(seen, Cause.OWNER, why, event.detail, now, policy), (AskOrigin(),)


def _late(state: State, event: LoopLate, now: float, policy: Policy) -> Asked:
    match event.probe:
        case Probe.PING:
            late = state.ping_late + 1
            if late <= policy.late_rounds:
                return replace(state, ping_late=late), ()
            charge = _late_charge(Accuser.PING, event, late)
            return _ping_lost(replace(state, ping_late=0), charge, now, now, policy)
        case Probe.CANARY:
            late = state.canary_late + 1
            if late <= policy.late_rounds:
                return replace(state, canary_late=late), ()
            charge = _late_charge(Accuser.CANARY, event, late)
            return _canary_lost(replace(state, canary_late=0), charge, now, now, policy)
        case _:
            assert_never(event.probe)


def _late_charge(accuser: Accuser, event: LoopLate, late: int) -> Charge:
    detail = (
        f"no answer in {late} rounds in which the agent was late too, by up to {event.late_s * 1000:.0f} ms"
    )
    return Charge(accuser, Cause.LATE, f"{event.probe} {Failure.SILENT}", detail, hard=False)


def _adopted(state: State, event: Adopted, now: float) -> State:
    """A former run's fence is up: it stays up, as after an outage, until the mirror has earned its return.

    The origin passes for good until it is asked: that run had asked it. The fence counts as long due for
    renewal.
    """
    why = "the fence of a former run was adopted"
    adopted = moved(
        state, HealthState.DOWN, Cause.ADOPTED, why, f"{event.left_s:.1f} s were left of its lease", now
    )
    return replace(
        adopted, was_well=True, origin=True, fence=RaisedFence(tentative=False, renewed=NEVER, since=now)
    )
