"""Waiting for what has no event: by looking again and again, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_S = 0.02
ENDS_S = 40.0
"""Within which anything ends that has a deadline of a second or less, on a machine that is busy with other
tests too; what would not keep its deadline waits for a minute, or for ever.
"""


def wait_until(done: Callable[[], object], what: str, deadline_s: float = 120) -> None:
    """Return at the first true answer of `done`. An AssertionError that names `what` at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(_LOOK_S)
