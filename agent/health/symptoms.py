"""What real reads tell. nydusd saves a read by itself from a refusal, a timeout or 5xx (FALLBACK), but not
from 4xx, wrong bytes or a cut body: there the container gets EIO unless nydusd's next retry, 0.4 to 1 s
later, meets the fence.

A refusal by the mirror's own word (403, REFUSED) is not retried at all: reads that are on their way are lost.
It fences like the others, unless the operator wants it honoured: then it is told, and moves nothing.

So one such symptom fences, and the suspicion lasts for its whole time, whatever a canary says: canaries are
few and small, and a mirror that limits its requests refuses the many. If reads fail in the same way again
soon after, it is an outage. If they go on failing behind the fence, the origin gives the same, and the mirror
is not to blame: the penalty for what reads alone have raised is given back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from agent.health.evidence import Symptom, SymptomKind
from agent.health.policy import Policy
from agent.health.state import Accuser, AskCanary, AskOrigin, AskOwner, Cause, HealthState, RaisedFence, State
from agent.health.transitions import Asked, Charge, accuse, origins_fault

_WHAT = {
    SymptomKind.STATUS: "the mirror refuses reads",
    SymptomKind.REFUSED: "the mirror refuses reads by its own rules",
    SymptomKind.DECODE: "the mirror gives bytes that do not decode",
    SymptomKind.CUT: "the mirror cuts reads short",
    SymptomKind.FALLBACK: "reads fall back to the origin",
    SymptomKind.COUNTER: "the mirror counts failures, and nydusd's lines cannot be read",
}


def symptom(state: State, event: Symptom, now: float, policy: Policy) -> Asked:
    """What follows from one symptom."""
    if event.kind is SymptomKind.REFUSED and policy.honour_refusals:
        return state, ()
    if state.fence is not None:
        return _behind_the_fence(state, state.fence, event, now, policy), ()
    match event.kind:
        case SymptomKind.STATUS | SymptomKind.REFUSED | SymptomKind.DECODE | SymptomKind.CUT:
            refuted = event.kind in state.symptom_refuted and now < state.symptom_refuted_until
            return (state, ()) if refuted or event.at <= state.lifted else _blame(state, event, now, policy)
        case SymptomKind.FALLBACK:
            return _fell_back(state, event, now, policy)
        case SymptomKind.COUNTER:
            if event.at <= state.lifted:
                return state, ()
            return _blame(state, event, now, policy) if state.symptoms_unknown else (state, (AskCanary(),))
        case _:
            assert_never(event.kind)


def _blame(state: State, event: Symptom, now: float, policy: Policy) -> Asked:
    kinds = frozenset({event.kind})
    goes_on = state.health_state is HealthState.SUSPECT
    again = event.kind in state.blamed and now - state.data_cleared <= policy.symptom_window_s
    blamed = state.blamed | kinds if goes_on else kinds
    unblamed = state.unblamed if goes_on or again else state.flap
    safe = event.kind is SymptomKind.FALLBACK
    accuser = Accuser.FALLBACK if safe else Accuser.READS
    charge = Charge(accuser, Cause.SYMPTOM, _WHAT[event.kind], event.detail, held=not safe)
    return accuse(replace(state, blamed=blamed, unblamed=unblamed), charge, now, policy)


def _fell_back(state: State, event: Symptom, now: float, policy: Policy) -> Asked:
    if event.at <= state.lifted + policy.fallback_settle_s:
        return state, ()
    two = event.at - state.fallback_at <= policy.fallback_pair_s
    seen = replace(state, fallback_at=event.at)
    if two or (state.ping_ok is False and not state.ping_refuted):
        return _blame(seen, event, now, policy)
    return seen, (AskCanary(), AskOwner(), AskOrigin())


def _behind_the_fence(state: State, fence: RaisedFence, event: Symptom, now: float, policy: Policy) -> State:
    """Only what nydusd's retries cannot explain any more counts, and only of the kinds that have raised the
    fence: an origin that is overrun after the mirror's death must not excuse the mirror.
    """
    same = state.cause is Cause.SYMPTOM and event.kind in state.blamed - {
        SymptomKind.FALLBACK,
        SymptomKind.COUNTER,
    }
    if not same or event.at <= fence.since + policy.symptom_origin_after_s:
        return state
    met = (*fence.met, event.kind)
    if len(met) < policy.symptom_origin_count:
        return replace(state, fence=replace(fence, met=met))
    still = state.symptom_refuted if now < state.symptom_refuted_until else frozenset()
    refuted = replace(
        state, fence=replace(fence, met=()), held=False,
        symptom_refuted=still | frozenset(met), symptom_refuted_until=now + policy.symptom_refuted_s,
    )  # fmt: skip
    return replace(refuted, flap=state.unblamed) if origins_fault(refuted, now) else refuted
