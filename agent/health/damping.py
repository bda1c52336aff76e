"""Flap damping: a mirror that fails again and again is believed later each time (the scheme of RFC 2439)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.health.policy import Policy


@dataclass(frozen=True, slots=True)
class Flap:
    """The penalty as of `at` (monotonic seconds), and whether it has crossed the suppress threshold."""

    penalty: float = 0.0
    at: float = 0.0
    suppressed: bool = False


def decayed(flap: Flap, now: float, policy: Policy) -> float:
    """The penalty now."""
    return float(flap.penalty * 0.5 ** (max(0.0, now - flap.at) / policy.flap_half_life_s))


def after_outage(flap: Flap, now: float, policy: Policy) -> Flap:
    """One outage more."""
    return _more(flap, policy.flap_penalty, now, policy)


def after_suspicion(flap: Flap, now: float, policy: Policy) -> Flap:
    """One fence more that was raised for nothing."""
    return _more(flap, policy.flap_suspicion, now, policy)


def held(flap: Flap, now: float, policy: Policy) -> bool:
    """Whether the mirror must not be believed yet."""
    return flap.suppressed and decayed(flap, now, policy) >= policy.flap_reuse


def held_s(flap: Flap, now: float, policy: Policy) -> float:
    """Seconds until the mirror may be believed again, as far as the penalty goes."""
    if not held(flap, now, policy):
        return 0.0
    return policy.flap_half_life_s * math.log2(decayed(flap, now, policy) / policy.flap_reuse)


def released(flap: Flap, now: float, policy: Policy) -> Flap:
    """The penalty after the mirror is believed again: it decays on, the suppression is over."""
    return Flap(decayed(flap, now, policy), now)


def _more(flap: Flap, amount: float, now: float, policy: Policy) -> Flap:
    penalty = min(decayed(flap, now, policy) + amount, policy.flap_cap)
    return Flap(penalty, now, flap.suppressed or penalty > policy.flap_suppress)
