"""A clock that moves only when told to, or by sleeping."""

from __future__ import annotations

from agent.facts.node import Moment


class FakeClock:
    """Starts at 2026-01-01 00:00 UTC, monotonic 1000 s; the machine never sleeps, so its boot clock shows the
    same.
    """

    def __init__(self, now: float = 1767225600.0, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic
        self._boot = 1

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._now += seconds
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._now += seconds

    def moment(self) -> Moment:
        return Moment(self._now, self._monotonic, f"boot-{self._boot}", self._monotonic, self._monotonic)

    def reboot(self, off_s: float = 30.0) -> None:
        """The machine is off for a while and starts anew; its wall clock goes on."""
        self._now += off_s
        self._monotonic = 1.0
        self._boot += 1
