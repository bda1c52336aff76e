"""How long the mirror's answers are waited for: windows that grow with its honest latency, and shrink again.

A busy node answers late (a loaded dfdaemon's data path was seen to take 549 ms), and a slow mirror is better
than none. What is learned is a decaying maximum. An answer within its window counts at once. One that came
after its window is either a hiccup (a mirror that was frozen for two seconds answers everything late, once)
or a new pace. So it widens the window for the requests after it, until one of them is answered in good time,
and it is learned only when a request that was sent after it had come is late too.
"""

from __future__ import annotations

from dataclasses import replace

from agent.health.policy import Policy
from agent.health.state import NEVER, Pace, State


def ping_window_s(state: State, policy: Policy) -> float:
    """Seconds that a round of pings which begins now may stay unanswered."""
    return _window_s(state.ping_pace, policy.window_s, policy)


def canary_window_s(state: State, policy: Policy) -> float:
    """Seconds that a round of canaries which begins now may stay unanswered."""
    return _window_s(state.canary_pace, policy.canary_window_s, policy)


def tentative_s(state: State, policy: Policy) -> float:
    """Seconds that a suspicion lasts at most: windows that have grown need more time for their second
    round.
    """
    grown_s = max(
        ping_window_s(state, policy) - policy.window_s,
        canary_window_s(state, policy) - policy.canary_window_s,
    )
    return policy.tentative_s + 2 * grown_s


def silence_s(state: State, policy: Policy) -> float:
    """Seconds of silence that make an outage: no honest answer takes longer."""
    return max(policy.window_cap_s, ping_window_s(state, policy), canary_window_s(state, policy))


def late(pace: Pace, started: float, latency_s: float, floor_s: float, policy: Policy) -> bool:
    """Whether an answer came after the window in which the request was sent."""
    known = pace if started >= pace.doubt_at else replace(pace, doubting=False)
    return latency_s > _window_s(known, floor_s, policy)


def learned(pace: Pace, started: float, latency_s: float, now: float, floor_s: float, policy: Policy) -> Pace:
    """What an answer teaches which came now to a request sent at `started`; `floor_s` is that probe's least
    window.

    Nothing where neither it nor what was learned before can widen that window. So it is with nearly every
    answer, and then the same pace is given back: the state of a mirror that is well does not change with each
    of its answers.
    """
    if not pace.doubting and policy.window_factor * max(pace.slowest_s, latency_s) <= floor_s:
        return pace
    age_s = now - pace.at if pace.slowest_s else 0.0
    slowest_s = pace.slowest_s * 0.5 ** (age_s / policy.window_half_life_s)
    remembered = now - pace.doubt_at <= policy.window_memory_s
    newer = started >= pace.doubt_at
    if not late(pace, started, latency_s, floor_s, policy):
        doubt_at = pace.doubt_at if remembered else NEVER
        return Pace(max(slowest_s, latency_s), now, pace.doubt_s, doubt_at, pace.doubting and not newer)
    if not remembered:
        return Pace(slowest_s, now, latency_s, now, doubting=True)
    if newer:
        return Pace(max(slowest_s, min(latency_s, pace.doubt_s)), now, latency_s, now, doubting=True)
    # Sent before the first late answer had come: the same hiccup, whose end that answer was.
    return Pace(slowest_s, now, max(latency_s, pace.doubt_s), pace.doubt_at, doubting=pace.doubting)


def _window_s(pace: Pace, floor_s: float, policy: Policy) -> float:
    slowest_s = max(pace.slowest_s, pace.doubt_s) if pace.doubting else pace.slowest_s
    return max(floor_s, min(policy.window_factor * slowest_s, policy.window_cap_s))
