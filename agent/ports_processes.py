"""The port of child processes. Part of `agent.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Finished:
    """A child that ended by itself."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """What a process runs (proc_pid_exe(5))."""

    path: str
    """Where it was when it was started."""
    replaced: bool
    """Another file, or none, lies there now."""


class Processes(Protocol):
    """The only spawn point. argv only, minimal environment, an empty stdin."""

    def run(
        self, argv: Sequence[str], *, deadline_s: float, ok: Sequence[int] = (0,), stdin: bytes = b""
    ) -> Finished:
        """Raises ProcessError (not found, no end in time, another exit code than `ok`)."""

    def program(self, pid: int) -> RunningProgram | None:
        """What a process runs; None: there is no such process.

        Raises ProcessError where that cannot be seen.
        """

    def program_sha256(self, pid: int) -> str | None:
        """The digest of the file that a process runs, also of one that lies nowhere any more; None: there is
        no such process. Raises ProcessError.
        """

    def which(self, name: str) -> str | None:
        """Absolute path of a program in PATH."""
