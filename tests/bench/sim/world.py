"""What a node's agent meets in the closed-loop simulation: a mirror and origins, with faults at known
times.
"""

from __future__ import annotations

import bisect
import enum
import random
from dataclasses import dataclass

from agent.health.evidence import Failure, Owner, Probe, SymptomKind
from tests.bench.sim.agent import NEVER_S, WELL_S, Answer

GOOD = Answer(WELL_S)
_LOST = Answer(NEVER_S)
_REFUSED = Answer(0.0005, Failure.REFUSED)


class Wrong(enum.Enum):
    """What is wrong with a mirror."""

    DEAD = enum.auto()
    """Nobody listens."""
    STALLS = enum.auto()
    """What begins in it is answered when it is over."""
    HANGS = enum.auto()
    """What begins in it is never answered."""
    PATH_HANGS = enum.auto()
    """The same of the data path alone: pings are answered."""
    PATH_FAILS = enum.auto()
    """The data path answers 500, so reads fall back; pings are answered."""
    LIES = enum.auto()
    """The data path gives wrong bytes; pings are answered."""
    REFUSES_READS = enum.auto()
    """Reads get 429; pings and canaries are answered."""
    PING_FAILS = enum.auto()
    """Only the ping port answers 500."""
    SLOW = enum.auto()
    """All is answered right, but later and later, up to `slow_s`, and then sooner again."""


_READS = {
    Wrong.DEAD: SymptomKind.FALLBACK,
    Wrong.PATH_FAILS: SymptomKind.FALLBACK,
    Wrong.LIES: SymptomKind.DECODE,
    Wrong.REFUSES_READS: SymptomKind.STATUS,
}
"""What nydusd writes of a read that meets it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the mirror, in seconds; `share` of the requests meet it."""

    begins: float
    ends: float
    wrong: Wrong
    share: float = 1.0
    slow_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A registry that does not answer; `silent`: not even with a refusal."""

    begins: float
    ends: float
    silent: bool


class World:
    """The mirror with its faults, of which none overlap, and the registries with their outages, in order."""

    def __init__(
        self, faults: tuple[Fault, ...], registries: tuple[tuple[Outage, ...], ...], rng: random.Random,
        *, local: bool = True
    ) -> None:  # fmt: skip
        self.faults = faults
        self.local = local
        self._rng = rng
        self._registries = registries
        self._begins = [fault.begins for fault in faults]
        ends = [*self._begins, *(fault.ends for fault in faults)]
        for outages in registries:
            ends += [at for outage in outages for at in (outage.begins, outage.ends)]
        self.changes: list[float] = sorted(set(ends))
        """When anything becomes otherwise."""

    def fault(self, at: float) -> Fault | None:
        """What is wrong with the mirror at this time."""
        number = bisect.bisect_right(self._begins, at) - 1
        return self.faults[number] if number >= 0 and at < self.faults[number].ends else None

    # As probes see it

    def attempt(self, at: float, probe: Probe) -> Answer:
        fault = self.fault(at)
        if fault is None or (fault.share < 1 and self._rng.random() >= fault.share):
            return GOOD
        pings = probe is Probe.PING
        match fault.wrong:
            case Wrong.DEAD:
                return _REFUSED
            case Wrong.STALLS:
                return Answer(fault.ends - at + WELL_S)
            case Wrong.HANGS:
                return _LOST
            case Wrong.PATH_HANGS:
                return GOOD if pings else _LOST
            case Wrong.PATH_FAILS:
                return GOOD if pings else Answer(WELL_S, Failure.STATUS)
            case Wrong.LIES:
                return GOOD if pings else Answer(WELL_S, Failure.CONTENT)
            case Wrong.PING_FAILS:
                return Answer(WELL_S, Failure.STATUS) if pings else GOOD
            case Wrong.REFUSES_READS:
                return GOOD
            case Wrong.SLOW:
                middle = (fault.begins + fault.ends) / 2
                return Answer(WELL_S + fault.slow_s * (1 - abs(at - middle) / (middle - fault.begins)))

    def owner(self, at: float) -> Owner:
        fault = self.fault(at)
        dead = fault is not None and fault.wrong is Wrong.DEAD
        return Owner.OK if self.local and not dead else Owner.NONE

    def origin(self, at: float) -> tuple[bool, bool]:
        """Whether one of the registries answers, and whether one that does not is silent."""
        out = [
            next((outage for outage in outages if outage.begins <= at < outage.ends), None)
            for outages in self._registries
        ]
        return None in out, any(outage is not None and outage.silent for outage in out)

    def origin_changed(self, since: float, until: float) -> bool:
        """Whether a registry went or came between these times."""
        ends = (at for outages in self._registries for one in outages for at in (one.begins, one.ends))
        return any(since < at <= until for at in ends)

    def read(self, at: float) -> SymptomKind | None:
        """What nydusd writes of a read that goes through the mirror now; None: nothing."""
        fault = self.fault(at)
        if fault is None or (fault.share < 1 and self._rng.random() >= fault.share):
            return None
        return _READS.get(fault.wrong)

    # As it is

    def serves(self, at: float) -> bool:
        """Whether every read through the mirror is answered rightly."""
        fault = self.fault(at)
        return fault is None or fault.wrong in (Wrong.PING_FAILS, Wrong.SLOW)
