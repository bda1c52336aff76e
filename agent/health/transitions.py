"""From the first evidence against the mirror to a health state: confirmed (down) or refuted (healthy).

The first evidence makes the mirror suspect, which fences it for a moment. Then the data path decides: a
canary that fails hard confirms, a clean one that began later refutes. Two accusers that do not see the same
thing are believed without a canary (a closed sentinel and a refused ping: the mirror is dead). Silence alone
is slower: a busy mirror answers late, so it is an outage only when it has lasted longer than the slowest
honest answer.

The way back needs time as well as evidence. A mirror that was never well is used as soon as it answers: a
cold node needs peer-to-peer most. After an outage it takes successes in succession, a dwell time, a canary, a
flap penalty that has fallen, and this node's slot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from agent.health.evidence import Owner
from agent.health.policy import Policy
from agent.health.state import (
    Accuser,
    AskCanary,
    AskOrigin,
    AskOwner,
    Cause,
    Effect,
    Flap,
    HealthState,
    State,
    after_outage,
    after_suspicion,
    can_bear,
    canary_window_s,
    halved,
    held,
    ping_window_s,
    released,
    silence_s,
    silent_since,
    tentative_s,
)

Asked: TypeAlias = tuple[State, tuple[Effect, ...]]

_SAME = frozenset({Accuser.SENTINEL, Accuser.PROCESS})
"""Both see a process end, and neither knows whether another one has taken over."""
_DATA = frozenset({Accuser.CANARY, Accuser.READS})


@dataclass(frozen=True, slots=True)
class Charge:
    """One piece of evidence against the mirror. `hard`: it cannot come from a mirror that is well (not
    silence).
    """

    accuser: Accuser
    cause: Cause
    why: str
    detail: str
    hard: bool = True
    held: bool = False
    """The suspicion must last for its whole time."""
    alone: bool = False
    """One nydusd of several says so: what it reads may be to blame, so it makes no outage."""


def accuse(state: State, charge: Charge, now: float, policy: Policy) -> Asked:
    """Take the charge to the health state."""
    if charge.alone and state.health_state in (HealthState.DOWN, HealthState.PROBATION):
        return state, ()
    seen = replace(state, oks=0, failed_at=now)
    match state.health_state:
        case HealthState.UNKNOWN | HealthState.HEALTHY:
            return _suspect(seen, charge, now, policy)
        case HealthState.SUSPECT:
            return _suspected(seen, charge, now, policy)
        case HealthState.PROBATION:
            if _is_borne(seen, charge, now, policy):
                return _bear(seen, charge, now, policy), (AskCanary(),)
            # The route has not moved since the outage was counted: it is still that one.
            back = moved(seen, HealthState.DOWN, charge.cause, charge.why, charge.detail, now)
            return _stalled(back, charge, now, policy), ()
        case HealthState.DOWN:
            return seen, ()
        case _:
            assert_never(state.health_state)


def doubted(state: State, accuser: Accuser, now: float) -> bool:
    """Whether this accuser was wrong of late."""
    return accuser in state.doubted and now < state.doubted_until


def canaries_speak(state: State, now: float, policy: Policy) -> bool:
    """Whether canaries come back, so that they can speak for a mirror whose pings fail."""
    grown_s = canary_window_s(state, policy) - policy.canary_window_s
    return policy.canary and now - state.canary_ok <= policy.vouch_s + 2 * grown_s


def down(state: State, cause: Cause, why: str, detail: str, now: float, policy: Policy) -> State:
    """An outage; whoever was doubted is believed again."""
    # Under a pin reads went where the operator wants them: a mirror that is restarted then has done no harm.
    counts = state.was_well and state.pin is None
    flap = after_outage(state.flap, now, policy) if counts else state.flap
    fined = _fined(state, flap, by_reads=cause is Cause.SYMPTOM and _reads_alone(state))
    gone = moved(fined, HealthState.DOWN, cause, why, detail, now)
    return replace(gone, sentinel_trusted=True, doubted=frozenset(), canary_oks=0)


def judged(state: State, now: float, policy: Policy) -> State:
    """A suspicion with the time that has passed: refuted, confirmed, not confirmed, or going on."""
    over = now - state.since >= tentative_s(state, policy)
    if _clean(state, policy) and (over or not state.held):
        answered = (
            "a canary came back clean" if policy.canary else f"{state.oks} pings in succession were answered"
        )
        # Only a canary can say so of pings that fail: without canaries they must have been answered.
        well = replace(state, was_well=True, ping_refuted=state.ping_refuted or state.ping_ok is False)
        return _cleared(well, answered, now, policy)
    if not over:
        return state
    ping_stands = state.ping_ok is False and not state.ping_refuted
    hard_ping = ping_stands and Accuser.PING in state.hard
    if hard_ping or state.soft >= min(policy.fall, 2) or not state.was_well:
        return down(state, state.cause, state.reason, state.evidence, now, policy)
    return _cleared(state, "the suspicion was not confirmed", now, policy)


def moved(
    state: State, health_state: HealthState, cause: Cause, reason: str, evidence: str, now: float
) -> State:
    """Another health state; no suspicion outlives it."""
    fresh = replace(state, accusers=frozenset(), hard=frozenset(), held=False, alone=False)
    return replace(fresh, health_state=health_state, cause=cause, since=now, reason=reason, evidence=evidence)


def origins_fault(state: State, now: float) -> bool:
    """Whether all that reads blamed the mirror for the last time was met at the origin too."""
    return state.blamed <= state.symptom_refuted and now < state.symptom_refuted_until


def _reads_alone(state: State) -> bool:
    return state.accusers <= {Accuser.READS}


def _fined(state: State, flap: Flap, *, by_reads: bool) -> State:
    """With a higher penalty. What others had a part in is never given back."""
    return replace(state, flap=flap, unblamed=state.unblamed if by_reads else flap)


def _suspect(state: State, charge: Charge, now: float, policy: Policy) -> Asked:
    doubt = doubted(state, charge.accuser, now)
    if _is_borne(state, charge, now, policy):
        return _bear(state, charge, now, policy), (AskCanary(),)
    if doubt and not charge.hard and state.soft < policy.fall:
        return state, (AskCanary(),)
    advisory = charge.hard and charge.accuser in (Accuser.PING, Accuser.FALLBACK)
    if doubt and advisory and canaries_speak(state, now, policy):
        return state, (AskCanary(), AskOwner())
    asks = (AskCanary(), AskOwner(), AskOrigin())
    relapse = now - state.data_cleared <= policy.symptom_window_s
    if relapse and charge.hard and charge.accuser in _DATA and not charge.alone:
        return down(state, charge.cause, f"{charge.why}, again", charge.detail, now, policy), asks
    borne_s = now - state.canary_borne_at
    seldom = (doubt or borne_s < policy.doubt_s) and borne_s > policy.symptom_window_s
    if seldom and charge.accuser is Accuser.CANARY and state.canary_bad == 1:
        # One canary of many fails: that is told. Another one soon fences.
        return replace(state, canary_borne_at=now), (AskCanary(),)
    suspect = moved(state, HealthState.SUSPECT, charge.cause, charge.why, charge.detail, now)
    accusers = frozenset({charge.accuser})
    hard = accusers if charge.hard else frozenset()
    suspect = replace(
        suspect, accusers=accusers, accused=now, hard=hard, held=charge.held, alone=charge.alone
    )
    return _stalled(suspect, charge, now, policy), asks


def _is_borne(state: State, charge: Charge, now: float, policy: Policy) -> bool:
    """Whether this silence moves nothing: the mirror stalls often, and such a stall ends by itself."""
    lasted_s = now - silent_since(state, now)
    return not charge.hard and lasted_s < policy.patience_s and can_bear(state, now, policy)


def _bear(state: State, charge: Charge, now: float, policy: Policy) -> State:
    """A stall that pings and canaries meet counts once."""
    if charge.accuser is Accuser.CANARY and state.ping_soft:
        return state
    ping = charge.accuser is Accuser.PING
    silent_s = ping_window_s(state, policy) if ping else canary_window_s(state, policy)
    borne_s = halved(state.borne, now, policy.borne_half_life_s) + silent_s
    return replace(state, borne=Flap(borne_s, now))


def _stalled(state: State, charge: Charge, now: float, policy: Policy) -> State:
    count = halved(state.stalls, now, policy.stall_half_life_s) + 1
    return state if charge.hard else replace(state, stalls=Flap(count, now))


def _suspected(state: State, charge: Charge, now: float, policy: Policy) -> Asked:
    # What a process's end says is not known to the canaries that began before it.
    accused = now if charge.accuser in _SAME else state.accused
    seen = replace(
        state, accusers=state.accusers | {charge.accuser}, accused=accused,
        hard=state.hard | {charge.accuser} if charge.hard else state.hard, held=state.held or charge.held,
        alone=charge.alone and (state.alone or not state.hard) if charge.hard else state.alone,
    )  # fmt: skip
    if _confirmed(seen, charge, now, policy):
        return down(seen, charge.cause, charge.why, charge.detail, now, policy), ()
    return seen, (AskCanary(),)


def _confirmed(state: State, charge: Charge, now: float, policy: Policy) -> bool:
    if not state.hard:
        return state.soft >= policy.fall and now - silent_since(state, now) >= silence_s(state, policy)
    if charge.accuser is Accuser.CANARY and charge.hard:
        return True
    if not policy.canary and charge.hard and charge.accuser is Accuser.PING:
        return True
    standing = {accuser for accuser in state.accusers if _stands(state, accuser)}
    return len(standing) > 1 and not state.alone and not standing <= _SAME


def _stands(state: State, accuser: Accuser) -> bool:
    """Whether the accuser has not taken it back; for a canary that failed hard, a clean one does."""
    if accuser is Accuser.PING:
        return state.ping_ok is False
    return accuser is not Accuser.CANARY or state.canary_soft > 0 or accuser in state.hard


def _clean(state: State, policy: Policy) -> bool:
    if policy.canary:
        return state.canary_ok >= state.accused and state.canary_soft == 0
    return state.oks >= policy.clean_pings


def _cleared(state: State, why: str, now: float, policy: Policy) -> State:
    """The suspicion was wrong; what misled is believed less, and a fence that was raised for it counts."""
    nothing = (
        state.fence is None
        or state.pin is not None
        or state.alone
        or (_reads_alone(state) and origins_fault(state, now))
    )
    flap = state.flap if nothing else after_suspicion(state.flap, now, policy)
    accusers = state.accusers
    cleared = replace(
        _fined(state, flap, by_reads=_reads_alone(state)), ping_soft=0, canary_soft=0,
        sentinel_trusted=state.sentinel_trusted and Accuser.SENTINEL not in accusers,
        local=state.local and state.owner is not Owner.NONE,
        doubted=accusers | (state.doubted if now < state.doubted_until else frozenset()),
        doubted_until=now + policy.doubt_s,
        data_cleared=now if accusers & _DATA else state.data_cleared,
    )  # fmt: skip
    if flap.suppressed:
        often = f"suspected again and again, this time: {state.reason}"
        return moved(cleared, HealthState.DOWN, state.cause, often, state.evidence, now)
    return moved(cleared, HealthState.HEALTHY, Cause.REFUTED, why, "", now)


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
    if state.oks < policy.rise or now - state.since < policy.dwell_s or held(state.flap, now, policy):
        return state
    slot = f"it answers again; this node returns in {policy.return_delay_s:.1f} s"
    rising = moved(
        state, HealthState.PROBATION, Cause.RECOVERED, slot, f"{state.oks} successes in succession", now
    )
    flap, unblamed = (released(one, now, policy) for one in (state.flap, state.unblamed))
    return replace(rising, flap=flap, unblamed=unblamed, return_at=now + policy.return_delay_s)


def _healthy(state: State, why: str, now: float) -> State:
    # A mirror that answers although nobody listens here any more has moved away from this node.
    local = state.local and state.owner is not Owner.NONE
    cause = Cause.RECOVERED if state.was_well else Cause.FIRST
    well = replace(state, was_well=True, local=local)
    return moved(well, HealthState.HEALTHY, cause, why, "", now)
