"""The daemon's own loop as a guest on asyncio's, on which the small mirrors and registries of the tests run: the turns
are the real ones, only when to take the next one is asyncio's to say. And what tests do with both.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, TypeVar

from agent.daemon.turning import Action, Loop, Timer
from tests.fakes.virtual_time import VirtualTime, loop_on, virtual_time

T = TypeVar("T")
_PRESENT: contextvars.ContextVar[Guest] = contextvars.ContextVar("guest")
_CLOCK: contextvars.ContextVar[VirtualTime] = contextvars.ContextVar("clock")


def _now() -> float:
    """Looked up at each call: a test may run in virtual time."""
    return time.monotonic()


class Guest(Loop):
    """Takes a turn whenever asyncio sees one of its descriptors ready, or its next timer due."""

    time = staticmethod(_now)

    def __init__(self) -> None:
        self._host = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None
        self.stopped = asyncio.Event()
        self.broken: asyncio.Future[None] = self._host.create_future()
        """What a callback has raised is raised here."""
        super().__init__()

    def call_at(self, when: float, action: Action) -> Timer:
        timer = super().call_at(when, action)
        self._arm()
        return timer

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        for descriptor in {*self._readers, *self._writers}:
            self._host.remove_reader(descriptor)
            self._host.remove_writer(descriptor)
        if self._next is not None:
            self._next.cancel()
        super().close()

    def _interest(self, descriptor: int) -> None:
        super()._interest(descriptor)
        for waiting, add, remove in (
            (self._readers, self._host.add_reader, self._host.remove_reader),
            (self._writers, self._host.add_writer, self._host.remove_writer),
        ):
            if descriptor in waiting:
                add(descriptor, self._turn)
            else:
                remove(descriptor)

    def _turn(self) -> None:
        try:
            self.turn(0)
        except Exception as error:
            if self.broken.done():
                raise
            self.broken.set_exception(error)
        self._arm()

    def _arm(self) -> None:
        if self._next is not None:
            self._next.cancel()
        left_ms = self.left_ms()
        self._next = None if left_ms is None else self._host.call_later(left_ms / 1000, self._turn)


def here() -> Guest:
    """The loop of the test that runs in `go`."""
    return _PRESENT.get()


def go(work: Coroutine[Any, Any, T], deadline_s: float = 120) -> T:
    """Run to the end. What a callback of the daemon's loop raises ends it too."""
    return asyncio.run(_with_guest(work, deadline_s))


def on_time(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run work in virtual time, once: no bound is missed because the machine was busy, so whatever fails is a bug."""
    with virtual_time() as passing:
        _CLOCK.set(passing)
        with asyncio.Runner(loop_factory=lambda: loop_on(passing)) as runner:
            runner.run(_with_guest(work(), 600))


def clock() -> VirtualTime:
    """The clocks of the test that runs in `on_time`."""
    return _CLOCK.get()


async def _with_guest(work: Coroutine[Any, Any, T], deadline_s: float) -> T:
    """Then end what still runs beside it while the loop can close its connections: one that is left open is told of
    in whatever test the collector happens to find it.
    """
    with closing(Guest()) as guest:
        _PRESENT.set(guest)
        task = asyncio.create_task(work)
        try:
            async with asyncio.timeout(deadline_s):
                both: list[asyncio.Future[Any]] = [task, guest.broken]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if guest.broken.done():
                    await guest.broken
                return await task
        finally:
            guest.broken.cancel()
            await asyncio.sleep(0.01)  # who was let in just now has a task that must begin: it closes its transport
            beside = asyncio.all_tasks() - {asyncio.current_task()}
            for each in beside:
                each.cancel()
            if beside:
                await asyncio.wait(beside, timeout=2)
            await asyncio.sleep(0.01)


async def result_of(begin: Callable[[Callable[[T], None]], object]) -> T:
    """What `begin` has told: it is given a callback that takes the result."""
    found: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    begin(found.set_result)
    return await found


async def until(done: Callable[[], bool], deadline_s: float = 60.0) -> float:
    """Wait for it, looking each 4 ms; how long it took."""
    clock = asyncio.get_running_loop().time
    started = clock()
    async with asyncio.timeout(deadline_s):
        while not done():
            await asyncio.sleep(0.004)
    return clock() - started
