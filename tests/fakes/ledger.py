"""A journal in memory: what was appended is on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import LockedError
from tests.fakes.faults import Faults


class FakeLedger:
    """Faults count `begin`, `append` and `close`. `held` says who holds the lock, "" where nobody does."""

    def __init__(self, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.held = ""
        self.reserve = 0
        self.written: list[bytes] = []
        self.open = False

    @contextmanager
    def lock(self, who: str) -> Iterator[None]:
        if self.held:
            raise LockedError("NNA0401", "another run is under way", cause=self.held)
        self.held = who
        try:
            yield
        finally:
            self.held = ""

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
