"""Programs whose output is followed as it comes: as long as they make progress, or timed."""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from agent.errors import ProcessError, hide
from agent.ports import ProgramEnd, Timed
from agent.system.process import ChildProcesses, Companion, Feed, companion, last_lines

_STEP_S = 0.2
_LONGEST_S = 24 * 3600.0
_KEPT = 8192


def follow(
    argv: Sequence[str],
    tell: Callable[[int, str], None],
    *,
    silence_s: float,
    environment: Mapping[str, str],
) -> tuple[int, list[str]]:  # fmt: skip
    """Run a program to its end: its exit code, and its last lines. `tell` hears how many bytes it has read so
    far, and its last line. One that neither reads nor writes nor says anything for `silence_s` is killed.
    Raises ProcessError where it cannot be run."""
    reader, writer = os.pipe()
    try:
        with companion(argv, writer, environment=environment) as child, child.killed_after(_LONGEST_S):
            return _followed(child, reader, tell, silence_s)
    finally:
        os.close(reader)
        os.close(writer)


def _followed(
    child: Companion, reader: int, tell: Callable[[int, str], None], silence_s: float
) -> tuple[int, list[str]]:  # fmt: skip
    said, seen, moved = b"", (0, 0), time.monotonic()
    while True:
        code = child.code
        came = _read(reader, _STEP_S if code is None else 0)
        said = (said + came)[-_KEPT:]
        lines = list(last_lines(said.decode(errors="replace")))
        if code is not None:
            return code, lines
        now = _bytes(child.pid)
        if came or now != seen:
            seen, moved = now, time.monotonic()
            tell(now[0], lines[-1] if lines else "")
        elif time.monotonic() - moved > silence_s:
            child.kill()
            return -9, [*lines, f"it did nothing for {silence_s:.0f} s"]


def _read(reader: int, seconds: float) -> bytes:
    """What came within so long; all that is kept of it, where it ends."""
    if not select.select([reader], [], [], seconds)[0]:
        return b""
    return os.read(reader, 1 << 16)


def _bytes(pid: int) -> tuple[int, int]:
    """Read and written so far, by the kernel's count (proc_pid_io(5)); sockets count too."""
    with (
        contextlib.suppress(OSError, ValueError, KeyError),
        open(f"/proc/{pid}/io", encoding="ascii") as file,
    ):
        counts = dict(line.split(": ") for line in file.read(4096).splitlines())
        return int(counts["rchar"]), int(counts["wchar"])
    return 0, 0


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
        """See ports.TimedPrograms."""
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
        self.tail.extend(hide(line[:300]) for line in lines if line.strip())
        return self._ready is not None and any(self._ready.search(line) for line in (*lines, self._rest))
