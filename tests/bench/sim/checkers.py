"""What others do: one probe at a time; so many failures in succession mean down, so many successes up."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.sim.loss import Stalls


@dataclass(frozen=True)
class Checker:
    """A health check with its documented numbers."""

    name: str
    interval_s: float
    timeout_s: float
    fall: int
    rise: int

    def expected(self, p: float, seconds: float) -> float:
        """Times that it takes a mirror that is well for down, each probe being lost with probability p.

        The stationary rate of a renewal process: from up, `fall` losses in succession take
        (1 - p^fall) / ((1 - p) p^fall) probes on average (Feller I, XIII.7); from down, `rise` successes
        likewise.
        """
        down = (1 - p**self.fall) / ((1 - p) * p**self.fall)
        good = 1 - p
        up = (1 - good**self.rise) / (p * good**self.rise)
        return seconds / self.interval_s / (down + up)

    def switches(self, lost: Iterator[int]) -> int:
        """The same counted: `lost` are the numbers of the checks that failed, ascending."""
        found, run, last, down = 0, 0, -2, False
        for number in lost:
            if number - last > self.rise:
                down = False  # so many successes lay between
            run = run + 1 if number == last + 1 else 1
            if run >= self.fall and not down:
                found, down = found + 1, True
            last = number
        return found


def lost_alone(checker: Checker, p: float, seconds: float, rng: random.Random) -> Iterator[int]:
    """Checks that fail, each with probability p: the gaps between them are geometric."""
    number, end = -1, seconds / checker.interval_s
    while True:
        number += 1 + int(math.log(1 - rng.random()) / math.log1p(-p))
        if number >= end:
            return
        yield number


def lost_in_stalls(checker: Checker, stalls: Stalls, seconds: float) -> Iterator[int]:
    """Checks that begin in a stall: lost, or answered when it is over, too late where that is after the
    timeout.

    Looks only at stalls longer than `stalls.long_s`, so that must be less than what makes a check fail.
    """
    number, last = 0, -1
    while (begins := stalls.long.begins) < seconds:
        stalls.look_from(begins)
        end = stalls.end(begins)
        number = max(last + 1, math.ceil(begins / checker.interval_s))
        while (at := number * checker.interval_s) < end:
            if stalls.lost or end - at > checker.timeout_s:
                last = number
                yield number
            number += 1
