"""The one error of this process."""

from __future__ import annotations

from agent.artifacts.fetching import harmless
from agent.artifacts.refusals import Refusal


class RefusedError(Exception):
    """What came is not taken, with what was seen (no secrets: URLs without their query)."""

    def __init__(self, refusal: Refusal, *seen: str) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.seen = tuple(map(harmless, seen))
