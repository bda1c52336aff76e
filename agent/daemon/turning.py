"""The loop of the daemon's one thread: poll(2), timers, signals, and nothing else.

asyncio's does all of this and more, and at the daemon's rate the rest is what it costs: on a node that is quiet
otherwise to wake up in it takes more than twice the CPU (tests/bench/floor.py), and its modules are 2 MiB of memory.
What is missed here is not needed: nothing waits in a coroutine, whoever waits has a descriptor or a timer.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Action: TypeAlias = Callable[[], object]
_PIECE = 4096
_READ, _WRITE = ~select.POLLOUT, ~select.POLLIN
"""An error or a hang-up is for whoever waits on the descriptor, for whatever: reading or writing tells which it is."""


class Timer:
    """Something that is to be done at a time, once."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Action) -> None:
        self.when = when
        self.action: Action | None = action
        """None: it is done, or not wanted any more."""

    def cancel(self) -> None:
        """Not at all. Harmless where it is done already."""
        self.action = None


class Loop:
    """Calls back who waits for a descriptor, a time, a signal or another thread. Times are monotonic seconds.

    An exception that a callback does not catch ends the run: what it has left half-done must not go on unnoticed.
    """

    time = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Action] = {}
        self._writers: dict[int, Action] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        """Of two timers for the same moment the older one is first."""
        self._signals: dict[int, Action] = {}
        self._handed: deque[Action] = deque()
        """By other threads."""
        self._guard = threading.Lock()
        self._closed = False
        self._runs = False
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.add_reader(self._woken, self._wake)

    # Who waits

    def call_at(self, when: float, action: Action) -> Timer:
        """Call when that time has come, up to a millisecond (poll's own unit) later. Never before this returns."""
        timer = Timer(when, action)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(self, seconds: float, action: Action) -> Timer:
        """The same, so many seconds from now; 0: in the next turn."""
        return self.call_at(self.time() + seconds, action)

    def call_soon_threadsafe(self, action: Action) -> None:
        """Call in the next turn; from any thread. Not at all once the loop is closed."""
        with self._guard:
            if not self._closed:
                self._handed.append(action)
                with contextlib.suppress(BlockingIOError):  # it is full of reasons to wake up
                    os.write(self._wakes, b"\0")

    def on_signal(self, number: int, action: Action) -> None:
        """Call whenever that signal has come, from the next turn on. From the main thread only."""
        self._signals[number] = action
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        signal.signal(number, _taken)
        signal.siginterrupt(number, False)  # noqa: FBT003 - its own name; calls of libraries go on

    def add_reader(self, descriptor: int, action: Action) -> None:
        """Call in each turn in which there is something to read, the end or an error; instead of a former action."""
        self._readers[descriptor] = action
        self._interest(descriptor)

    def remove_reader(self, descriptor: int) -> None:
        """Call no more, also where it was seen in this turn. Before the descriptor is closed: its number is reused."""
        if self._readers.pop(descriptor, None) is not None:
            self._interest(descriptor)

    def add_writer(self, descriptor: int, action: Action) -> None:
        """Call in each turn in which something can be written, or never will be."""
        self._writers[descriptor] = action
        self._interest(descriptor)

    def remove_writer(self, descriptor: int) -> None:
        """As `remove_reader`."""
        if self._writers.pop(descriptor, None) is not None:
            self._interest(descriptor)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a descriptor or a time."""
        timers = any(timer.action is not None for _, _, timer in self._timers)
        return not timers and not self._writers and self._readers.keys() == {self._woken}

    def _interest(self, descriptor: int) -> None:
        what = select.POLLIN if descriptor in self._readers else 0
        if descriptor in self._writers:
            what |= select.POLLOUT
        if what:
            self._poll.register(descriptor, what)
        else:
            self._poll.unregister(descriptor)

    # Turning

    def run(self) -> None:
        """Turn until told to stop. Raises whatever a callback does."""
        self._runs = True
        while self._runs:
            self.turn(self.left_ms())

    def stop(self) -> None:
        """Let this turn be the last one."""
        self._runs = False

    def left_ms(self) -> int | None:
        """Milliseconds until the next timer is due; None: there is none."""
        timers = self._timers
        while timers:
            when, _, timer = timers[0]
            if timer.action is not None:
                left_s = when - self.time()
                return math.ceil(left_s * 1000) if left_s > 0 else 0
            heapq.heappop(timers)
        return None

    def turn(self, wait_ms: int | None) -> None:
        """Sleep for so long at most (None: for ever), then call who has waited for what there is now.

        What a callback of this turn brings about is the next turn's, so that none keeps the others waiting; whom it
        removes is not called, nor is who has come to the same number since.
        """
        ready = self._poll.poll(wait_ms)
        if ready:
            self._call_ready(ready)
        timers = self._timers
        if timers and timers[0][0] <= (now := self.time()):
            due = [heapq.heappop(timers)[2]]
            while timers and timers[0][0] <= now:
                due.append(heapq.heappop(timers)[2])
            for timer in due:
                action, timer.action = timer.action, None
                if action is not None:
                    action()

    def _call_ready(self, ready: list[tuple[int, int]]) -> None:
        readers, writers = self._readers, self._writers
        due: list[tuple[dict[int, Action], int, Action]] = []
        for descriptor, what in ready:
            if what & select.POLLNVAL:
                raise RuntimeError(f"descriptor {descriptor} was closed while it was waited for")
            if what & _READ and (action := readers.get(descriptor)) is not None:
                due.append((readers, descriptor, action))
            if what & _WRITE and (action := writers.get(descriptor)) is not None:
                due.append((writers, descriptor, action))
        for waiting, descriptor, action in due:
            if waiting.get(descriptor) is action:
                action()

    def _wake(self) -> None:
        for number in os.read(self._woken, _PIECE):
            if number in self._signals:
                self._signals[number]()
        for _ in range(len(self._handed)):
            self._handed.popleft()()

    def close(self) -> None:
        """Give up signals, which do what they did before, and the own descriptors."""
        with self._guard:
            self._closed = True
            if self._signals:
                signal.set_wakeup_fd(-1)
            for number in self._signals:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.close(self._woken)
            os.close(self._wakes)


def _taken(_number: int, _frame: object) -> None:
    """A signal's number is in the pipe by now (set_wakeup_fd); that there is a handler is all that is needed."""
