"""Mirrors that are well, behind a path that loses attempts: one by one, or all within a stall."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from agent.health.evidence import Owner, Probe
from tests.bench.sim.agent import NEVER_S, WELL_S, Answer

LOST = Answer(NEVER_S)
GOOD = Answer(WELL_S)
_KEPT_S = 10.0
"""Stalls that are over for so long are forgotten; rounds look back and ahead by less."""


@dataclass
class Independent:
    """Each attempt is lost with probability `p`; the next `doomed` ones are lost for certain."""

    p: float
    rng: random.Random
    doomed: int = 0

    def attempt(self, at: float, _probe: Probe) -> Answer:
        if self.doomed:
            self.doomed -= 1
            return LOST
        return LOST if self.rng.random() < self.p else GOOD

    def owner(self, at: float) -> Owner:
        return Owner.OK


class Stream:
    """A Poisson process of stalls whose lengths are exponential of this mean, without those outside of the
    bounds.
    """

    def __init__(
        self, rate: float, mean_s: float, longer_s: float, up_to_s: float, rng: random.Random
    ) -> None:
        self._beyond = math.exp(-up_to_s / mean_s), math.exp(-longer_s / mean_s)
        self._rate = rate * (self._beyond[1] - self._beyond[0])
        self._mean_s = mean_s
        self._rng = rng
        self.begins = 0.0
        self.ends = 0.0
        self.look_from(0.0)

    def look_from(self, at: float) -> None:
        """The next stall is the first one that begins after this time."""
        self.begins = at
        self.next()

    def next(self) -> None:
        """Go on to the next stall; none comes at all where there is none within the bounds."""
        self.begins += self._rng.expovariate(self._rate) if self._rate else math.inf
        self.ends = self.begins - self._mean_s * math.log(self._rng.uniform(*self._beyond) or 1.0)


@dataclass
class Stalls:
    """Stalls begin at random (a Poisson process), last for exponential times of this mean, and take `share`
    of the time. What begins within one is lost (`lost`), or answered when it is over.

    Those longer than `long_s` and the others are drawn apart, which for such a process changes nothing: the
    long ones over the whole time, the others only around times that are looked at.
    """

    mean_s: float
    share: float
    lost: bool
    long_s: float
    rng: random.Random
    _seen: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rate = -math.log1p(-self.share) / self.mean_s
        self.long = Stream(rate, self.mean_s, self.long_s, math.inf, self.rng)
        self.short = Stream(rate, self.mean_s, 0.0, self.long_s, self.rng)

    def look_from(self, at: float) -> None:
        """Nothing before this time is asked for again; no long stall is under way."""
        self._seen.clear()
        self.short.look_from(at - self.long_s)

    def end(self, at: float) -> float:
        """When the stall of this moment is over; the moment itself outside of stalls."""
        end = at
        while True:
            self._draw(end)
            further = max((ends for begins, ends in self._seen if begins <= end), default=end)
            if further <= end:
                return end
            end = further

    def attempt(self, at: float, _probe: Probe) -> Answer:
        end = self.end(at)
        if end <= at:
            return GOOD
        return LOST if self.lost else Answer(end - at + WELL_S)

    def owner(self, at: float) -> Owner:
        return Owner.OK

    def _draw(self, to: float) -> None:
        for stream in (self.long, self.short):
            while stream.begins <= to:
                self._seen.append((stream.begins, stream.ends))
                stream.next()
        if len(self._seen) > 100:
            self._seen = [(begins, ends) for begins, ends in self._seen if ends > to - _KEPT_S]
