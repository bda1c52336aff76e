"""Programs whose output is followed as it comes, and timed."""

from __future__ import annotations

import contextlib
import re
import select
import time
from collections import deque
from collections.abc import Callable, Sequence

from agent.adapters.process import ChildProcesses, Feed
from agent.errors import ProcessError
from agent.ports_bench import ProgramEnd, Timed

_POLL_MS = 100.0  # how soon a signal to us is seen
_GRACE_S = 15.0
_TAIL = 5
_LINE_CAP = 4096
_PIECE = 65536


class TimedChildren:
    """Children of this process; standard error comes with the output, stdin is null."""

    def run(
        self,
        argv: Sequence[str],
        *,
        ready: str = "",
        end: Sequence[str] = (),
        deadline_s: float,
        stopped: Callable[[], bool],
    ) -> Timed:
        """See ports_bench.TimedPrograms."""
        began = time.monotonic()  # before it is: on a busy machine it may run for a while before we do again
        child = Feed(argv, together=True)
        try:
            watch = _Watch(child, ready, began)
            how = watch.follow(deadline_s, stopped)
            if how is not ProgramEnd.ITSELF and end:
                with contextlib.suppress(ProcessError):
                    ChildProcesses().run(end, deadline_s=_GRACE_S)
                watch.drain(_GRACE_S)
            return Timed(how, watch.code, watch.output_s, watch.ready_s, tuple(watch.tail))
        finally:
            child.end()


class _Watch:
    """What a child writes, from now on."""

    def __init__(self, child: Feed, ready: str, began: float) -> None:
        self.output_s: float | None = None
        self.ready_s = 0.0
        self.code: int | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._child = child
        self._ready = re.compile(ready) if ready else None
        self._rest = ""
        self._began = began
        self._poll = select.poll()
        self._poll.register(child.fileno(), select.POLLIN)

    def follow(self, deadline_s: float, stopped: Callable[[], bool]) -> ProgramEnd:
        """Until one of the four ends."""
        deadline = self._began + deadline_s
        while True:
            if stopped():
                return ProgramEnd.STOPPED
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                return ProgramEnd.DEADLINE
            wait_ms = min(left_ms, _POLL_MS)
            if not self._poll.poll(wait_ms):
                continue
            piece = self._child.read(_PIECE)
            if piece == b"":  # it has closed its output, which does not mean that it ends
                self.code = self._child.wait(wait_ms / 1000)
                if self.code is not None:
                    self.ready_s = self._now()
                    return ProgramEnd.ITSELF
            elif piece and self._take(piece, at := self._now()):
                self.ready_s = at
                return ProgramEnd.READY

    def drain(self, seconds: float) -> None:
        """Read on until it has ended, so that it never blocks on a full pipe, which others may hold open for
        longer.
        """
        deadline = time.monotonic() + seconds
        while (left_ms := (deadline - time.monotonic()) * 1000) > 0:
            wait_ms = min(left_ms, _POLL_MS)
            piece = self._child.read(_PIECE) if self._poll.poll(wait_ms) else None
            if piece:
                self._take(piece, self._now())
            elif self._child.wait(0 if piece is None else wait_ms / 1000) is not None:
                return

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _take(self, piece: bytes, at: float) -> bool:
        """Whether the line that is waited for is among what was written, whole or at its end."""
        if self.output_s is None:
            self.output_s = at
        *lines, self._rest = (self._rest + piece.decode(errors="replace")).split("\n")
        self._rest = self._rest[-_LINE_CAP:]
        self.tail.extend(line[:300] for line in lines if line.strip())
        return self._ready is not None and any(self._ready.search(line) for line in (*lines, self._rest))
