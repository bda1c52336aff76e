"""The way to the mirror, which needs time as well as evidence.

A mirror that was never well is used as soon as it answers: a cold node needs peer-to-peer most. After an
outage it takes successes in succession, a dwell time, a canary, a flap penalty that has fallen, and this
node's slot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from agent.health import damping
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.state import Cause, HealthState, State
from agent.health.suspicion import judged, moved


def recover(state: State, now: float, policy: Policy) -> State:
    """What the time that has passed and the evidence so far allow."""
    match state.health_state:
        case HealthState.HEALTHY:
            return state
        case HealthState.UNKNOWN:
            return _healthy(state, _first(policy), now) if answers(state, policy) else state
        case HealthState.SUSPECT:
            return judged(state, now, policy)
        case HealthState.DOWN:
            return _rising(state, now, policy)
        case HealthState.PROBATION:
            due = now >= state.return_at and answers(state, policy)
            return (
                _healthy(state, "it is well again, and this node's turn to return has come", now)
                if due
                else state
            )
        case _:
            assert_never(state.health_state)


def answers(state: State, policy: Policy) -> bool:
    """One success and, where there are canaries, a clean one since the last failure; the owner is right."""
    clean = not policy.canary or state.canary_ok > state.failed_at
    return state.oks > 0 and clean and state.owner is not Owner.FOREIGN


def _first(policy: Policy) -> str:
    return "a ping and a canary were answered" if policy.canary else "a ping was answered"


def _rising(state: State, now: float, policy: Policy) -> State:
    if not answers(state, policy):
        return state
    if not state.was_well:
        return _healthy(state, f"{_first(policy)} for the first time", now)
    if state.oks < policy.rise or now - state.since < policy.dwell_s or damping.held(state.flap, now, policy):
        return state
    slot = f"it answers again; this node returns in {policy.return_delay_s:.1f} s"
    rising = moved(
        state, HealthState.PROBATION, Cause.RECOVERED, slot, f"{state.oks} successes in succession", now
    )
    flap, unblamed = (damping.released(one, now, policy) for one in (state.flap, state.unblamed))
    return replace(rising, flap=flap, unblamed=unblamed, return_at=now + policy.return_delay_s)


def _healthy(state: State, why: str, now: float) -> State:
    # A mirror that answers although nobody listens here any more has moved away from this node.
    local = state.local and state.owner is not Owner.NONE
    cause = Cause.RECOVERED if state.was_well else Cause.FIRST
    well = replace(state, was_well=True, local=local)
    return moved(well, HealthState.HEALTHY, cause, why, "", now)
