"""A journal in memory: what was appended is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.errors import LockedError
from tests.fakes.faults import Faults

SELF = 4711
"""The process that runs on the fakes."""


class FakeLedger:
    """Faults count `begin`, `append` and `close`. `held` says who holds the lock, "" where nobody does."""

    def __init__(self, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.held = ""
        self.bug = ""
        self.holding = 0
        """The process that holds the lock."""
        self.signals: list[str] = []
        """What `end_holder` did."""
        self.on_end: Callable[[bool], None] = lambda _kill: None
        """Called when the holder is told to end."""
        self.reserve = 0
        self.written: list[bytes] = []
        self.open = False

    @contextmanager
    def lock(self, who: str) -> Iterator[None]:
        if self.held:
            raise LockedError("NNA0401", "another run is under way", cause=self.held)
        self.held, self.holding = who, SELF
        try:
            yield
        finally:
            self.held, self.holding = "", 0

    def holder(self) -> int:
        if self.bug:
            raise RuntimeError(self.bug)
        return self.holding

    def end_holder(self, pid: int, *, kill: bool) -> bool:
        if not self.holding or self.holding != pid:
            return False
        self.signals.append("kill" if kill else "term")
        self.on_end(kill)
        return True

    def begin(self, first: bytes, reserve: int) -> None:
        with self.faults.around("begin"):
            self.open, self.reserve, self.written = True, reserve, [first]

    def append(self, line: bytes) -> None:
        with self.faults.around("append"):
            assert self.open, "append without begin"
            self.written.append(line)

    def lines(self) -> tuple[bytes, ...]:
        return tuple(self.written)

    def spend(self) -> None:
        self.reserve = 0

    def close(self) -> None:
        with self.faults.around("close"):
            self.open, self.reserve, self.written = False, 0, []
