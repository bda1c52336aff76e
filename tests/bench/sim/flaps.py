"""A mirror that dies and comes back again and again: how often the real machine moves the route away from it.

Only the machine, and a beat of probes that are answered at once or refused: no more is needed of the daemon
here, so that this runs where the daemon's libraries are not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Event,
    Failure,
    Mode,
    ModeChanged,
    OriginSeen,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Route,
    SentinelClosed,
    Tick,
)
from agent.health.machine import step
from agent.health.policy import Policy
from agent.health.route import route
from agent.health.state import AskCanary, AskOwner, State

_WELL_S = 10.0
_STEP_S = 0.01
_TICK_S = 0.25
_CHORES_S = 1.0
_ANSWER_S = 0.002
_SEEDS = 20


@dataclass(frozen=True)
class Flapping:
    """Dead for `down_s`, well for `up_s`, `count` times, after it was well for a while."""

    count: int
    down_s: float
    up_s: float

    @property
    def ends(self) -> float:
        """When the last of them is over."""
        return _WELL_S + self.count * (self.down_s + self.up_s)

    def dead(self, at: float) -> bool:
        """Whether nobody listens now."""
        since = (at - _WELL_S) % (self.down_s + self.up_s)
        return _WELL_S <= at < self.ends and since < self.down_s


def switches(mirror: Flapping, policy: Policy) -> int:
    """How often reads leave such a mirror, at most: the beats of probes against its deaths differ from run to
    run.
    """
    return max(_Run(mirror, policy, random.Random(seed)).switches() for seed in range(_SEEDS))


class _Run:
    def __init__(self, mirror: Flapping, policy: Policy, rng: random.Random) -> None:
        self._mirror = mirror
        self._policy = policy
        self._state = State()
        self._now = 0.0
        self._left = 0
        self._due = {
            "ping": rng.random() * policy.interval_s, "canary": rng.random() * policy.canary_interval_s,
            "tick": rng.random() * _TICK_S, "owner": 0.0,
        }  # fmt: skip
        self._every = {
            "ping": policy.interval_s, "canary": policy.canary_interval_s, "tick": _TICK_S,
            "owner": _CHORES_S,
        }  # fmt: skip

    def switches(self) -> int:
        self._take(ModeChanged(Mode.FENCE, "modelled"))
        self._take(OriginSeen(good=True, detail="modelled"))
        dead = False
        while self._now < self._mirror.ends:
            before, dead = dead, self._mirror.dead(self._now)
            if dead and not before:
                self._take(SentinelClosed("end of file"))
            for kind, due in tuple(self._due.items()):
                if self._now >= due:
                    self._due[kind] = self._now + self._every[kind]
                    self._take(self._seen(kind, dead=dead))
            self._now += _STEP_S
        return self._left

    def _seen(self, kind: str, *, dead: bool) -> Event:
        match kind, dead:
            case "ping", True:
                return PingFailed(self._now, Failure.REFUSED, "modelled")
            case "ping", False:
                return PingOk(self._now, _ANSWER_S)
            case "canary", True:
                return CanaryFailed(self._now, Failure.REFUSED, "modelled")
            case "canary", False:
                return CanaryOk(self._now, _ANSWER_S)
            case "owner", _:
                return OwnerSeen(Owner.NONE if dead else Owner.OK, "modelled")
            case _:
                return Tick()

    def _take(self, event: Event) -> None:
        before = self._state
        self._state, effects = step(before, event, self._now, self._policy)
        self._left += route(before) is Route.MIRROR and route(self._state) is Route.ORIGIN
        for effect in effects:
            if isinstance(effect, AskCanary):
                self._due["canary"] = self._now
            elif isinstance(effect, AskOwner):
                self._due["owner"] = self._now
