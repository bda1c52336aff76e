"""The one timer of a session: waking up costs as much as a ping, so all that is periodic is done with the same beat."""

from __future__ import annotations

import math
from collections.abc import Callable

from agent.daemon.probes import jittered
from agent.daemon.turning import Loop, Timer

TICK_S = 0.25
"""Between two beats, at most."""


class Beat:
    """Calls `action` again and again; so often that each `interval_s` holds a whole number of beats."""

    def __init__(self, loop: Loop, interval_s: float, action: Callable[[], None]) -> None:
        self.every_s = interval_s / math.ceil(interval_s / TICK_S)
        self._loop = loop
        self._action = action
        self._timer: Timer | None = None

    def sooner(self, seconds: float) -> None:
        """The next one so many seconds from now at the latest, and the others after it."""
        when = self._loop.time() + seconds
        if self._timer is None or self._timer.when > when:
            self.stop()
            self._timer = self._loop.call_at(when, self._beat)

    def stop(self) -> None:
        """No further one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        self.sooner(jittered(self.every_s))  # a tenth earlier or later, so that a fleet does not beat
        self._action()
