"""One probe as several staggered attempts: the first right answer counts, a wrong one too and at once, silence only
when none of them was answered within the window. One lost packet is then not silence.

An answer that comes after its round was given up is told as well: such a mirror is slow, not hung.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from agent.daemon.http import ProbeError
from agent.daemon.turning import Loop, Timer
from agent.health.evidence import Failure

ATTEMPTS = 5
_STAGGER_S = 0.1
"""At the least: a request that got no answer for this long gets company on a fresh connection."""
LATE_S = 0.05
"""A deadline that was noticed this much too late says that the agent was late, not the mirror."""


def stagger_s(window_s: float, attempts: int = ATTEMPTS) -> float:
    """Between two attempts of a round with this window."""
    return max(_STAGGER_S, window_s / (attempts + 1))


@dataclass(frozen=True, slots=True)
class Wrong:
    """An attempt that was answered wrongly, or refused. `stale`: no evidence (a kept connection had been closed)."""

    failure: Failure
    detail: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Right:
    """The latency of the first right answer, from the round's beginning."""

    latency_s: float


@dataclass(frozen=True, slots=True)
class Late:
    """Nothing was answered, and the agent itself was late: that says nothing."""

    late_s: float


Told: TypeAlias = "Callable[[Wrong | None], None]"
Attempt: TypeAlias = Callable[[int, Told], Callable[[], None]]
"""Begins one attempt (its number in the round) and says how it is given up. How it ends it tells once, and not before
it has returned; None = a right answer. It raises ProbeError where it fails at once.
"""
Outcome: TypeAlias = Right | Wrong | Late


class Hedge:
    """Rounds of one probe. `answered_late` is told the beginning (loop time) and the latency of what came late."""

    def __init__(
        self,
        loop: Loop,
        attempt: Attempt,
        answered_late: Callable[[float, float], None],
        *,
        cap_s: float,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.loop = loop
        self.attempt = attempt
        self.answered_late = answered_late
        self.cap_s = cap_s
        self.attempts = attempts
        self._open: set[_Round] = set()
        """The present round, and those from which late answers may come."""

    def begin(self, window_s: float, ended: Callable[[Outcome], None]) -> None:
        """One round; never longer than the window (plus our own lateness). Silence is `Wrong` of that kind."""
        made = _Round(self, window_s, ended, self._open.discard)
        self._open.add(made)
        made.begin()

    def close(self) -> None:
        """Wait for nothing any more."""
        for made in tuple(self._open):
            made.close()


class _Round:
    """One round, driven by its attempts' ends and by one timer."""

    __slots__ = (
        "_doubted", "_end", "_ended", "_hedge", "_launch_at", "_launched", "_loop", "_over", "_running", "_silent",
        "_started", "_step_s", "_timer", "_window_s",
    )  # fmt: skip

    def __init__(
        self, hedge: Hedge, window_s: float, ended: Callable[[Outcome], None], over: Callable[[_Round], None]
    ) -> None:
        self._hedge = hedge
        self._window_s = window_s
        self._ended = ended
        self._over = over
        self._loop = hedge.loop
        self._started = self._loop.time()
        self._end = self._started + window_s
        self._step_s = stagger_s(window_s, hedge.attempts)
        self._running: dict[int, Callable[[], None]] = {}
        self._launched = 0
        self._launch_at = self._started
        self._doubted = False
        self._silent = False
        self._timer: Timer | None = None

    def begin(self) -> None:
        """The first attempt."""
        self._launch(self._started)

    def close(self) -> None:
        """Give up what is still waited for."""
        if self._timer is not None:
            self._timer.cancel()
        running, self._running = self._running, {}
        for give_up in running.values():
            give_up()
        self._over(self)

    def _launch(self, now: float) -> None:
        number = self._launched
        self._launched, self._launch_at = number + 1, now + self._step_s
        try:
            self._running[number] = self._hedge.attempt(number, lambda outcome: self._told(number, outcome))
        except ProbeError as error:
            self._finish(Wrong(error.failure, error.detail))
            return
        self._wake_at(min(self._launch_at, self._end) if self._launched < self._hedge.attempts else self._end)

    def _told(self, number: int, outcome: Wrong | None) -> None:
        del self._running[number]
        now = self._loop.time()
        if self._silent:
            if outcome is None:
                self.close()
                self._hedge.answered_late(self._started, now - self._started)
            elif not self._running:
                self.close()
        elif outcome is None:
            self._finish(Right(now - self._started))
        elif not outcome.stale:
            self._finish(outcome)
        elif not self._running:
            self._launch(now)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        if self._silent:
            self.close()
            return
        now = self._loop.time()
        late_s = now - self._end
        if late_s >= 0 and (late_s <= LATE_S or self._doubted):
            if late_s > LATE_S:
                self._finish(Late(late_s))
            else:
                self._call_silent()
            return
        if late_s >= 0:  # we were late, so the mirror gets a little more time, once
            self._doubted, self._end = True, now + _STAGGER_S
            self._launch(now)
        elif self._launched < self._hedge.attempts:
            self._launch(now)
        else:
            self._wake_at(self._end)

    def _call_silent(self) -> None:
        """What comes from now on is late; it is still looked at, up to the cap."""
        self._silent = True
        if self._running and self._started + self._hedge.cap_s > self._loop.time():
            self._wake_at(self._started + self._hedge.cap_s)
        else:
            self.close()
        self._ended(Wrong(Failure.SILENT, f"no answer in {self._window_s * 1000:.0f} ms"))

    def _finish(self, outcome: Outcome) -> None:
        self.close()
        self._ended(outcome)
