"""Time that passes only while nobody has anything to do: a busy machine cannot make a subject late.

Sockets, files and signals are real. What the kernel has for the loop is taken first; only then the clocks go
on to the next timer. So a bound on a time holds the subject's own timers and waits, and not the machine's
load.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_GRACE_S = 0.001
"""Real time in which the kernel may still bring what was sent."""
_STEP_S, _LONGEST_STEP_S = 0.01, 0.05
"""At most this much passes for the first grace in which the kernel is silent, and for each that follows it: a
kernel that is late by a millisecond costs ten, not a whole window.
"""
_LATE_S = 1e-6
_SHIFTED = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)


class VirtualTime:
    """The clocks that Python code reads: they stand still but for `advance`."""

    def __init__(self) -> None:
        self._passed_s = self._stepped_s = 0.0
        self._began = {clock: time.clock_gettime(clock) for clock in _SHIFTED}

    def advance(self, seconds: float) -> None:
        """A little more than asked for, as with a real clock: rounding makes no timer early."""
        self._passed_s += max(0.0, seconds) + _LATE_S

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock, forwards or back."""
        self._stepped_s += seconds

    def read(self, clock: int) -> float:
        stepped_s = self._stepped_s if clock == time.CLOCK_REALTIME else 0.0
        return self._began[clock] + self._passed_s + stepped_s


@contextmanager
def virtual_time() -> Iterator[VirtualTime]:
    """`time.monotonic`, `time.time`, `time.clock_gettime` and `time.sleep` are of the virtual time inside."""
    made, real = VirtualTime(), time.clock_gettime
    replaced: dict[str, Callable[..., object]] = {
        "monotonic": lambda: made.read(time.CLOCK_MONOTONIC),
        "monotonic_ns": lambda: int(made.read(time.CLOCK_MONOTONIC) * 1e9),
        "time": lambda: made.read(time.CLOCK_REALTIME),
        "clock_gettime": lambda clock: made.read(clock) if clock in _SHIFTED else real(clock),
        "sleep": made.advance,
    }
    kept = {name: getattr(time, name) for name in replaced}
    for name, function in replaced.items():
        setattr(time, name, function)
    try:
        yield made
    finally:
        for name, function in kept.items():
            setattr(time, name, function)


def loop_on(clock: VirtualTime) -> asyncio.AbstractEventLoop:
    """An event loop whose waits make the virtual time pass."""
    return asyncio.SelectorEventLoop(_PassingSelector(clock))


class _PassingSelector(selectors.EpollSelector):
    def __init__(self, clock: VirtualTime) -> None:
        super().__init__()
        self._clock = clock
        self._silent = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is not None and timeout <= 0:
            return found
        found = found or super().select(None if timeout is None else _GRACE_S)
        if found or timeout is None:
            self._silent = 0
            return found
        self._silent += 1
        self._clock.advance(min(timeout, _STEP_S * self._silent, _LONGEST_STEP_S))
        return found
