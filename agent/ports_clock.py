"""The port of time. Part of `agent.ports`."""

from __future__ import annotations

from typing import Protocol

from agent.node.facts import Moment


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""

    def sleep(self, seconds: float) -> None:
        """Sleep."""

    def moment(self) -> Moment:
        """Now on every clock by which a length of time is measured that must outlive this process."""
