"""Real reads as values."""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import NydusdError
from agent.ports import Trial


class FakeTrials:
    """Gives `result` (or raises it), and keeps the configuration that nydusd would have got."""

    def __init__(self) -> None:
        self.result: Trial | NydusdError = NydusdError(
            "NNA0721", "nydusd did not mount", cause="no result was set"
        )
        self.configs: list[bytes] = []
        self.started: list[str] = []
        self.broken: dict[str, str] = {}
        """Programs that do not start -> why."""

    def start(self, nydusd: str, *, deadline_s: float) -> str:
        self.started.append(nydusd)
        if nydusd in self.broken:
            raise NydusdError("NNA0731", f"{nydusd} does not run on this node", cause=self.broken[nydusd])
        return "v2.2.0"

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
