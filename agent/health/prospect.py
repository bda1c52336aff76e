"""What must still happen until reads go to the mirror (again), and how soon that can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from agent.health import damping, patience
from agent.health.evidence import Mode, Route
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.route import route
from agent.health.state import HealthState, State


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


def prospect(state: State, now: float, policy: Policy) -> Prospect:
    """The way to the mirror as of `now`."""
    if route(state) is Route.MIRROR:
        return Prospect()
    waits = tuple(_waits(state, now, policy))
    seconds: float | None = 0.0
    for wait in waits:
        if seconds is None or wait.seconds is None:
            seconds = None
        else:
            seconds = seconds + wait.seconds if wait.after else max(seconds, wait.seconds)
    return Prospect(tuple(wait.what for wait in waits), seconds)


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
    if state.pin is Route.ORIGIN:
        left_s = None if state.pin_until is None else max(0.0, state.pin_until - now)
        yield _Wait(f"the end of the pin: {state.pin_reason}", left_s)
    if state.owner is Owner.FOREIGN:
        yield _Wait("the foreign process to leave the mirror's port", None)
    match state.health_state:
        case HealthState.UNKNOWN | HealthState.HEALTHY:
            return
        case HealthState.SUSPECT:
            yield from _suspected(state, now, policy)
        case HealthState.DOWN:
            yield from _down(state, now, policy)
        case HealthState.PROBATION:
            yield from _evidence(state, policy, rise=1)
            yield _Wait("this node's turn to return", max(0.0, state.return_at - now))
        case _:
            assert_never(state.health_state)


def _suspected(state: State, now: float, policy: Policy) -> Iterator[_Wait]:
    if policy.canary and (state.canary_ok < state.accused or state.canary_soft):
        yield _Wait("a clean canary")
    if not policy.canary and state.oks < policy.clean_pings:
        yield _rise(state, policy, policy.clean_pings)
    if state.held:
        left_s = state.since + patience.tentative_s(state, policy) - now
        yield _Wait("the end of the time for which a suspicion by reads lasts", max(0.0, left_s))


def _down(state: State, now: float, policy: Policy) -> Iterator[_Wait]:
    if not state.was_well:
        yield from _evidence(state, policy, rise=1)
        return
    yield from _evidence(state, policy, rise=policy.rise)
    dwell_s = state.since + policy.dwell_s - now
    if dwell_s > 0:
        yield _Wait("the time for which a mirror stays down at least", dwell_s)
    held_s = damping.held_s(state.flap, now, policy)
    if held_s > 0:
        penalty = damping.decayed(state.flap, now, policy)
        yield _Wait(f"the flap penalty of {penalty:.0f} to fall below {policy.flap_reuse:.0f}", held_s)
    if policy.return_delay_s > 0:
        yield _Wait("then this node's turn to return", policy.return_delay_s, after=True)


def _evidence(state: State, policy: Policy, *, rise: int) -> Iterator[_Wait]:
    if state.oks < rise:
        yield _rise(state, policy, rise)
    if policy.canary and state.canary_ok <= state.failed_at:
        yield _Wait("a clean canary")


def _rise(state: State, policy: Policy, rise: int) -> _Wait:
    missing = rise - state.oks
    beat_s = policy.canary_interval_s if state.ping_refuted else policy.interval_s
    return _Wait(f"{missing} more success{'es in succession' if missing > 1 else ''}", missing * beat_s)
