"""The node's clocks."""

from __future__ import annotations

import time

from agent.node.facts import Moment
from agent.node.moment import present


class SystemClock:
    """CLOCK_REALTIME and CLOCK_MONOTONIC."""

    def now(self) -> float:
        """Seconds since the epoch; can step."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that only go forward; stands still while the machine is suspended."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep; not at all where `seconds` is not positive."""
        if seconds > 0:
            time.sleep(seconds)

    def moment(self) -> Moment:
        """See ports.Clock."""
        return present()
