"""The route: derived from the state each time, never remembered, so that it cannot disagree with the health
state. And what must still happen until reads go to the mirror (again), and how soon that can be.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from agent.health.evidence import Mode, Owner, Route
from agent.health.policy import Policy
from agent.health.state import (
    Cause,
    Effect,
    ExtendFence,
    HealthState,
    LiftFence,
    RaisedFence,
    RaiseFence,
    State,
    decayed,
    held_s,
    tentative_s,
)


class Wish(enum.Enum):
    """Which fence the state calls for."""

    NONE = enum.auto()
    TENTATIVE = enum.auto()
    HELD = enum.auto()


def wish(state: State) -> Wish:
    """Which fence the state calls for.

    Never into the dark: with the origin bad, a slow mirror is better than none. Two exceptions. The
    operator's pin is the operator's. And a foreign owner: a foreign socket would get the connections, so no
    read reaches the mirror. The fence takes nothing away and keeps foreign bytes out.
    """
    if state.mode is not Mode.FENCE or state.pin is Route.MIRROR:
        return Wish.NONE
    if state.pin is Route.ORIGIN or state.owner is Owner.FOREIGN:
        return Wish.HELD
    if state.origin is not True:
        return Wish.NONE
    match state.health_state:
        case HealthState.HEALTHY | HealthState.UNKNOWN:
            return Wish.NONE
        case HealthState.SUSPECT:
            return Wish.TENTATIVE
        case HealthState.DOWN | HealthState.PROBATION:
            return Wish.HELD
        case _:
            assert_never(state.health_state)


def settle(state: State, now: float, policy: Policy) -> tuple[State, tuple[Effect, ...]]:
    """Bring the fence to what the state calls for."""
    wanted = wish(state)
    if wanted is Wish.NONE:
        if state.fence is None:
            return state, ()
        return replace(state, fence=None, lifted=now, met=state.fence.met), (LiftFence(),)
    tentative = wanted is Wish.TENTATIVE
    lease_s = policy.lease_s
    if tentative:
        lease_s = min(policy.lease_s, state.since + tentative_s(state, policy) - now)
    if state.fence is None:
        if now - state.fence_failed_at < policy.renew_s:
            return state, ()
        # One container that reads makes three or four symptoms in a fence of a few seconds: the next fence
        # goes on counting.
        met = state.met if now - state.lifted <= policy.symptom_window_s else ()
        raised = RaisedFence(tentative, renewed=now, since=now, met=met)
        return replace(state, fence=raised, fence_error=""), (RaiseFence(lease_s, tentative),)
    # A tenth early: ticks come a little late, and a renewal must not wait for one tick more.
    if state.fence.tentative != tentative or now - state.fence.renewed >= 0.9 * policy.renew_s:
        renewed = replace(state.fence, tentative=tentative, renewed=now)
        return replace(state, fence=renewed), (ExtendFence(lease_s, tentative),)
    return state, ()


def route(state: State) -> Route:
    """Where blob reads go now."""
    match state.mode:
        case Mode.FENCE:
            return Route.MIRROR if state.fence is None else Route.ORIGIN
        case Mode.NATIVE:
            return Route.ORIGIN if state.pings_down else Route.MIRROR
        case Mode.UNKNOWN:
            return Route.ORIGIN
        case _:
            assert_never(state.mode)


def route_cause(before: State, after: State) -> Cause:
    """Why the route of `after` is another one than that of `before`, in one word."""
    if before.mode is not after.mode:
        return Cause.MODE
    if before.pin is not after.pin:
        return Cause.PIN
    if before.health_state is not after.health_state:
        return after.cause
    if before.fence_error != after.fence_error:
        return Cause.FENCE
    return after.cause if before.origin is after.origin else Cause.ORIGIN


def route_reason(state: State) -> str:
    """Why the route is what it is, in words."""
    if state.mode is Mode.UNKNOWN:
        return "nothing was applied on this node yet, so nothing of ours uses the mirror"
    if state.mode is Mode.NATIVE:
        return "native: nydusd's own ping decides"
    if state.fence_error and state.fence is None and wish(state) is not Wish.NONE:
        return f"the fence could not be raised: {state.fence_error}"
    if state.pin is not None:
        return f"pinned to the {state.pin}: {state.pin_reason}"
    if state.health_state in (HealthState.UNKNOWN, HealthState.HEALTHY) or state.fence is not None:
        return state.reason
    if state.origin is False:
        return f"both bad, and a bad mirror is better than none: {state.reason}; {state.origin_detail}"
    return f"{state.reason}; no fence before an origin has answered"


@dataclass(frozen=True, slots=True)
class Prospect:
    """The way back. `waits_for`: in words, in the order in which it comes; empty: reads go to the mirror."""

    waits_for: tuple[str, ...] = ()
    seconds: float | None = 0.0
    """The earliest, if all goes well from now on; None: it is not a matter of time."""


@dataclass(frozen=True, slots=True)
class _Wait:
    what: str
    seconds: float | None = 0.0
    after: bool = False
    """It begins when all before it is done."""


def prospect(state: State, now: float, policy: Policy, canary_s: float = 0.0) -> Prospect:
    """The way to the mirror as of `now`; the next canary is due in `canary_s` seconds."""
    if route(state) is Route.MIRROR:
        return Prospect()
    waits = tuple(
        replace(wait, seconds=canary_s) if wait.what == _CANARY else wait
        for wait in _waits(state, now, policy)
    )
    seconds: float | None = 0.0
    for wait in waits:
        if seconds is None or wait.seconds is None:
            seconds = None
        else:
            seconds = seconds + wait.seconds if wait.after else max(seconds, wait.seconds)
    return Prospect(tuple(wait.what for wait in waits), seconds)


_CANARY = "a clean canary"


def _waits(state: State, now: float, policy: Policy) -> Iterator[_Wait]:
    match state.mode:
        case Mode.UNKNOWN:
            yield _Wait(state.mode_reason, None)
        case Mode.NATIVE:
            yield _Wait("a ping that the mirror answers; nydusd looks for itself", None)
        case Mode.FENCE:
            yield from _fenced(state, now, policy)
        case _:
            assert_never(state.mode)


def _fenced(state: State, now: float, policy: Policy) -> Iterator[_Wait]:
    if state.owner is Owner.FOREIGN:
        yield _Wait("the foreign process to leave the mirror's port", None)
    match state.health_state:
        case HealthState.UNKNOWN | HealthState.HEALTHY:
            pass
        case HealthState.SUSPECT:
            yield from _suspected(state, now, policy)
        case HealthState.DOWN:
            yield from _down(state, now, policy)
        case HealthState.PROBATION:
            yield from _evidence(state, policy, rise=1)
            yield _Wait("this node's turn to return", max(0.0, state.return_at - now))
        case _:
            assert_never(state.health_state)
    # Last: the node's turn to return passes under the pin.
    if state.pin is Route.ORIGIN:
        left_s = None if state.pin_until is None else max(0.0, state.pin_until - now)
        yield _Wait(f"the end of the pin: {state.pin_reason}", left_s)


def _suspected(state: State, now: float, policy: Policy) -> Iterator[_Wait]:
    if policy.canary and (state.canary_ok < state.accused or state.canary_soft):
        yield _Wait(_CANARY)
    if not policy.canary and state.oks < policy.clean_pings:
        yield _rise(state, policy, policy.clean_pings)
    if state.held:
        left_s = state.since + tentative_s(state, policy) - now
        yield _Wait("the end of the time for which a suspicion by reads lasts", max(0.0, left_s))


def _down(state: State, now: float, policy: Policy) -> Iterator[_Wait]:
    if not state.was_well:
        yield from _evidence(state, policy, rise=1)
        return
    yield from _evidence(state, policy, rise=policy.rise)
    dwell_s = state.since + policy.dwell_s - now
    if dwell_s > 0:
        yield _Wait("the time for which a mirror stays down at least", dwell_s)
    penalty_s = held_s(state.flap, now, policy)
    if penalty_s > 0:
        penalty = decayed(state.flap, now, policy)
        yield _Wait(f"the flap penalty of {penalty:.0f} to fall below {policy.flap_reuse:.0f}", penalty_s)
    if policy.return_delay_s > 0:
        yield _Wait("then this node's turn to return", policy.return_delay_s, after=True)


def _evidence(state: State, policy: Policy, *, rise: int) -> Iterator[_Wait]:
    if state.oks < rise:
        yield _rise(state, policy, rise)
    if policy.canary and state.canary_ok <= state.failed_at:
        yield _Wait(_CANARY)


def _rise(state: State, policy: Policy, rise: int) -> _Wait:
    missing = rise - state.oks
    beat_s = policy.canary_interval_s if state.ping_refuted else policy.interval_s
    return _Wait(f"{missing} more success{'es in succession' if missing > 1 else ''}", missing * beat_s)
