"""Real reads as values."""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import NydusdError
from agent.ports import Trial


class FakeTrials:
    """Gives `result` (or raises it), and keeps the configuration that nydusd would have got."""

    def __init__(self) -> None:
        self.result: Trial | NydusdError = NydusdError("NNA0723", "nydusd did not mount", cause="no result was set")
        self.configs: list[bytes] = []

    def read(
        self,
        nydusd: str,
        bootstrap: str,
        configure: Callable[[str, str], bytes],
        *,
        mirror: tuple[str, int],
        limit: int,
        deadline_s: float,
    ) -> Trial:
        self.configs.append(configure("http://127.0.0.1:9", "/run/trial/cache"))
        if isinstance(self.result, NydusdError):
            raise self.result
        return self.result
