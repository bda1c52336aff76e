"""One probe as several staggered attempts: the first right answer counts, a wrong one too and at once, silence only
when none of them was answered within the window. One lost packet is then not silence.

An answer that comes after its round was given up is told as well: such a mirror is slow, not hung.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

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


Attempt: TypeAlias = Callable[[int], Coroutine[Any, Any, "Wrong | None"]]
"""Makes one attempt (its number in the round); None = a right answer."""
_Tasks: TypeAlias = "set[asyncio.Task[Wrong | None]]"


class Hedge:
    """Rounds of one probe. `answered_late` is told the beginning (loop time) and the latency of what came late."""

    def __init__(
        self,
        attempt: Attempt,
        answered_late: Callable[[float, float], None],
        *,
        cap_s: float,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._attempt = attempt
        self._answered_late = answered_late
        self._cap_s = cap_s
        self._attempts = attempts
        self._waiting: set[asyncio.Task[None]] = set()

    async def round(self, window_s: float) -> Right | Wrong | Late:
        """One round; never longer than the window (plus our own lateness). Silence is `Wrong` of that kind."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        end, step_s = started + window_s, stagger_s(window_s, self._attempts)
        running = {self._launch(0)}
        launched, launch_at, doubted = 1, started + step_s, False
        try:
            while True:
                until = min(launch_at, end) if launched < self._attempts else end
                done, running = await asyncio.wait(
                    running, timeout=max(0.0, until - loop.time()), return_when=asyncio.FIRST_COMPLETED
                )
                verdict = _verdict(done)
                if verdict is not None:
                    return verdict if isinstance(verdict, Wrong) else Right(loop.time() - started)
                now = loop.time()
                late_s = now - end
                if late_s >= 0 and (late_s <= LATE_S or doubted):
                    if late_s > LATE_S:
                        return Late(late_s)
                    self._wait_on(running, started)
                    running = set()
                    return Wrong(Failure.SILENT, f"no answer in {window_s * 1000:.0f} ms")
                if late_s >= 0:  # we were late, so the mirror gets a little more time, once
                    doubted, end, launch_at = True, now + _STAGGER_S, now
                if not running or now >= launch_at:
                    running.add(self._launch(launched))
                    launched, launch_at = launched + 1, now + step_s
        finally:
            for task in running:
                task.cancel()

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._waiting:
            task.cancel()

    def _launch(self, number: int) -> asyncio.Task[Wrong | None]:
        return asyncio.create_task(self._attempt(number))

    def _wait_on(self, running: _Tasks, started: float) -> None:
        task = asyncio.create_task(self._stragglers(running, started))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _stragglers(self, running: _Tasks, started: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            while running and (left_s := started + self._cap_s - loop.time()) > 0:
                done, running = await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if any(task.result() is None for task in done):
                    self._answered_late(started, loop.time() - started)
                    return
        finally:
            for task in running:
                task.cancel()


def _verdict(done: _Tasks) -> Right | Wrong | None:
    outcomes = [task.result() for task in done]
    if None in outcomes:
        return Right(0.0)
    return next((outcome for outcome in outcomes if outcome is not None and not outcome.stale), None)
