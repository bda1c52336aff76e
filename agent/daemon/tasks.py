"""What the daemon's tasks share: a group that ends as a whole, the timer that wakes them, the wait for a
descriptor."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK_S = 0.25
"""Between two ticks, at most."""


class _BlockEndedError(Exception):
    """Ends the tasks of a group whose block has ended (asyncio's documentation, "Terminating a task
    group").
    """


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks that are cancelled when the block ends. What one of them raises ends the block and the
    other tasks, and is raised as it is: whoever reads the daemon's last words must find the error and not a
    group of errors.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
            raise _BlockEndedError
    except BaseExceptionGroup as failed:
        for error in failed.exceptions:
            if not isinstance(error, _BlockEndedError):
                raise error from error.__cause__


class Ticker:
    """The one timer of a session: waking up costs as much as a ping, so all that is periodic waits for the
    same tick. An interval holds a whole number of ticks.
    """

    def __init__(self, interval_s: float) -> None:
        self.every_s = interval_s / math.ceil(interval_s / TICK_S)
        self._event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def tick(self) -> None:
        """Wait for the next one."""
        await self._event.wait()

    def hasten(self, seconds: float) -> None:
        """The next tick comes so many seconds from now at the latest, and the others after it."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._timer is None or self._timer.when() > when:
            self.stop()
            self._timer = loop.call_at(when, self._strike)

    def stop(self) -> None:
        """No further one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _strike(self) -> None:
        self._timer = None
        self.hasten(jittered(self.every_s))  # a tenth earlier or later, so that a fleet is not in step
        self._event.set()
        self._event.clear()  # whoever waited is woken, whoever comes later waits for the next one


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, the end, or an error."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def jittered(seconds: float) -> float:
    """A tenth more or less."""
    return seconds * (0.9 + os.urandom(1)[0] / 1280)
