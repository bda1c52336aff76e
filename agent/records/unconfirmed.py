"""What is recorded of a change that waits for its confirmation, and of one that was taken back. Pure:
`status` reads it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.facts.node import Moment


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that waits for its confirmation."""

    KIND: ClassVar = "Unconfirmed"
    id: str
    """Of the transaction."""
    generation: int
    """The number that it has once it was accepted."""
    seconds: int
    """How long it waits, from before its first act."""
    at: float
    boot: str
    boottime: float
    """When that began, by each clock."""
    pid: int
    """The process that carries it out."""

    def same_boot(self, now: Moment) -> bool:
        """Whether its alarm can still be there."""
        began = 0.0 if now.up_s is None else now.boottime - now.up_s
        return self.boot == now.boot and self.boottime >= began

    def left_s(self, now: Moment) -> float:
        """Seconds until it is taken back; by the boot's clock, so that no stepped clock moves it."""
        return max(0.0, -self.late_s(now))

    def late_s(self, now: Moment) -> float:
        """Seconds since it should have been taken back; negative before."""
        if self.same_boot(now):
            return now.boottime - self.boottime - self.seconds
        return now.boottime if now.up_s is None else now.up_s


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What became of a change that was not confirmed."""

    KIND: ClassVar = "TakenBack"
    id: str
    generation: int
    at: float
    newest: int
    """The newest generation after that; 0: none."""
    why: str
