"""How tests run coroutines: in real time or in virtual time, to the end, with a deadline."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.fakes.virtual_time import VirtualTime, loop_on, virtual_time

T = TypeVar("T")
_CLOCK: contextvars.ContextVar[VirtualTime] = contextvars.ContextVar("clock")


def go(work: Coroutine[Any, Any, T], deadline_s: float = 120) -> T:
    """Run to the end."""
    return asyncio.run(_to_the_end(work, deadline_s))


def on_time(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run work in virtual time, once: no bound is missed because the machine was busy, so whatever fails is a
    bug."""
    with virtual_time() as passing:
        _CLOCK.set(passing)
        with asyncio.Runner(loop_factory=lambda: loop_on(passing)) as runner:
            runner.run(_to_the_end(work(), 600))


def clock() -> VirtualTime:
    """The clocks of the test that runs in `on_time`."""
    return _CLOCK.get()


def daemons_tasks() -> list[str]:
    """The names of the tasks that the daemon's code has begun and that still run. Each of them has a name."""
    return sorted(name for task in asyncio.all_tasks() if not (name := task.get_name()).startswith("Task-"))


async def until(done: Callable[[], bool], deadline_s: float = 60.0) -> float:
    """Wait for it; how long it took. It looks each 4 ms in the first second, then each 20 ms."""
    clock = asyncio.get_running_loop().time
    started = clock()
    async with asyncio.timeout(deadline_s):
        while not done():
            await asyncio.sleep(0.004 if clock() - started < 1 else 0.02)
    return clock() - started


async def _to_the_end(work: Coroutine[Any, Any, T], deadline_s: float) -> T:
    """Then end what still runs beside it while the loop can close its connections: one that is left open is
    told of in whatever test the collector happens to find it.
    """
    try:
        async with asyncio.timeout(deadline_s):
            return await work
    finally:
        # Who was let in just now has a task that must begin: it closes its transport.
        await asyncio.sleep(0.01)
        beside = asyncio.all_tasks() - {asyncio.current_task()}
        for each in beside:
            each.cancel()
        if beside:
            await asyncio.wait(beside, timeout=2)
        await asyncio.sleep(0.01)
