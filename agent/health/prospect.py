"""What must still happen until reads go to the mirror (again), and how soon that can be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.health import damping
from agent.health.evidence import Mode, Route
from agent.health.policy import Policy
from agent.health.route import route
from agent.health.state import State, Verdict


@dataclass(frozen=True, slots=True)
class Prospect:
    """The way back. `waits_for`: in words, in the order in which it comes; empty: reads go to the mirror."""

    waits_for: tuple[str, ...] = ()
    seconds: float | None = None
    """The earliest, if all goes well from now on; 0: they go there now. None: nobody can tell."""


def prospect(state: State, now: float, policy: Policy) -> Prospect:
    """The way back as of now."""
    if route(state) is Route.MIRROR:
        return Prospect((), 0.0)
    if state.mode is not Mode.FENCE:
        return Prospect((state.mode_reason,), None)
    if state.pin is Route.ORIGIN:
        return Prospect(("the operator's pin",), None)
    match state.verdict:
        case Verdict.UNKNOWN | Verdict.HEALTHY:
            return Prospect((), 0.0)
        case Verdict.SUSPECT:
            return Prospect(("a clean canary",), 0.0)
        case Verdict.DOWN:
            dwell_s = max(0.0, state.since + policy.dwell_s - now)
            rise_s = max(0, policy.rise - state.oks) * policy.interval_s
            held_s = 0.0
            if damping.held(state.flap, now, policy):
                held_s = policy.flap_half_life_s * math.log2(
                    damping.decayed(state.flap, now, policy) / policy.flap_reuse
                )
            waits = (f"{max(0, policy.rise - state.oks)} more successes", "a clean canary", "this node's turn")
            return Prospect(waits, max(dwell_s, rise_s, held_s) + policy.return_delay_s)
        case Verdict.PROBATION:
            return Prospect(("this node's turn",), max(0.0, state.return_at - now))
