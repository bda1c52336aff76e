"""The route: derived from the state each time, never remembered, so that it cannot disagree with the health
state.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import assert_never

from agent.health import patience
from agent.health.evidence import Mode, Route
from agent.health.owner import Owner
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
        lease_s = min(policy.lease_s, state.since + patience.tentative_s(state, policy) - now)
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
            return Route.ORIGIN if state.ping_ok is False else Route.MIRROR
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
