"""How long a probe may stay unanswered: windows that grow with the mirror's honest latency, and shrink again.

A busy node answers late (a loaded dfdaemon's data path was seen to take 549 ms), and a mirror that answers is better
than none. Learned is a decaying maximum. An answer within its window counts at once. One that came after its window
may be a hiccup (a mirror that was frozen for two seconds answers everything late, once) or the new pace: the window
widens for what follows, and keeps what was seen only when a request that was sent after the late answer is late too.
"""

from __future__ import annotations

from agent.health.policy import Policy
from agent.health.state import Pace, State


def ping_window_s(state: State, policy: Policy) -> float:
    """Seconds that a round of pings which begins now may stay unanswered."""
    return _window_s(state.ping_pace, policy.window_s, policy)


def canary_window_s(state: State, policy: Policy) -> float:
    """Seconds that a round of canaries which begins now may stay unanswered."""
    return _window_s(state.canary_pace, policy.canary_window_s, policy)


def learned(pace: Pace, latency_s: float, now: float, window_s: float, policy: Policy) -> Pace:
    """What one answer teaches; `window_s` is the probe's window now."""
    slowest_s = pace.slowest_s * 0.5 ** (max(0.0, now - pace.at) / policy.window_half_life_s) if pace.slowest_s else 0.0
    doubt_s, doubt_at = pace.doubt_s, pace.doubt_at
    if now - doubt_at > policy.window_memory_s:
        doubt_s, doubt_at = 0.0, float("-inf")
    if latency_s <= window_s:
        return Pace(max(slowest_s, latency_s), now, doubt_s, doubt_at)
    return Pace(slowest_s, now, max(doubt_s, latency_s), now)


def _window_s(pace: Pace, floor_s: float, policy: Policy) -> float:
    wanted_s = policy.window_factor * max(pace.slowest_s, pace.doubt_s)
    return min(max(floor_s, wanted_s), max(floor_s, policy.window_cap_s))
