"""A drill of which only the kind, the scope and the end are real; it ends on the clock that it is given."""

from __future__ import annotations

from agent.errors import FenceError
from agent.ports import DrillKind, DrillScope, Struck
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults


class FakeDrill:
    """Faults count `begin`. Two connections of nydusd and three of the agent are open."""

    def __init__(self, clock: FakeClock | None = None, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.clock = clock if clock is not None else FakeClock()
        self.begun: list[tuple[DrillKind, DrillScope, float]] = []
        self.ended = 0
        """How often `end` was called."""
        self._until = 0.0

    @property
    def active(self) -> bool:
        """Whether the mirror looks dead now."""
        return self.clock.monotonic() < self._until

    def begin(self, kind: DrillKind, scope: DrillScope, seconds: float) -> Struck:
        with self.faults.around("begin"):
            if self.active:
                raise FenceError("NNA0801", "nft refused a command", cause="File exists")
            self.begun.append((kind, scope, seconds))
            self._until = self.clock.monotonic() + seconds
        return Struck(2, 3) if scope.nydusd else Struck(0, 3)

    def end(self) -> None:
        self.ended += 1
        self._until = 0.0
