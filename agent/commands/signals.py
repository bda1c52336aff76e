"""What the signals mean that want a verb to end: each verb says it for as long as it works."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A terminal that is closed is such a signal too."""


@contextmanager
def caught_by(handler: Callable[[str], None]) -> Iterator[None]:
    """Within the block these signals call `handler` with their names; afterwards they mean what they did
    before.
    """

    def caught(number: int, _frame: FrameType | None) -> None:
        handler(signal.Signals(number).name)

    before = {number: signal.signal(number, caught) for number in ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
