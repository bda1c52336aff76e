"""The port of child processes. Part of `agent.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Finished:
    """A child that ended by itself."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Processes(Protocol):
    """The only spawn point. argv only, minimal environment, stdin null."""

    def run(self, argv: Sequence[str], *, deadline_s: float, ok: Sequence[int] = (0,), stdin: bytes = b"") -> Finished:
        """Raises ProcessError (not found, no end in time, another exit code than `ok`)."""

    def which(self, name: str) -> str | None:
        """Absolute path of a program in PATH."""
