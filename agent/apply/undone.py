"""What a bench has still to undo, in a file: where it is killed, its memory of that is gone, and `status`, `doctor`,
`remove` and the next bench tell it with the command that mends it. Here is what `status` needs; the rest, which needs
ports, is in undoing.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError


@dataclass(frozen=True, slots=True)
class Away:
    """A name of an image that was on the node before the bench, and must come back."""

    name: str
    digest: str
    runtime: str
    """CRI's runtime handler that it is pulled for; "" = the default one."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What one bench has still to undo."""

    pid: int = 0
    """Of the bench; 0: none."""
    away: tuple[Away, ...] = ()
    pulled: tuple[str, ...] = ()
    """Images that were new to CRI, and are to go."""

    def problems(self) -> Iterator[AgentError]:
        """What is left of it, once it is dead."""
        for one in self.away:
            what = f"{one.name} was on the node, and a bench that was killed has taken it away"
            yield AgentError("NNA1709", what, try_=f"sudo crictl pull {one.name}")
        for name in self.pulled:
            what = f"{name} was pulled by a bench that was killed, and may be on the node still"
            yield AgentError("NNA1709", what, try_=f"sudo crictl rmi {name}")


def undone_of(document: object) -> Undone:
    """The record in a JSON document; empty where it is none."""
    try:
        found = document if isinstance(document, dict) else {}
        away = tuple(Away(str(one["name"]), str(one["digest"]), str(one["runtime"])) for one in found.get("away", ()))
        return Undone(int(found.get("pid", 0)), away, tuple(map(str, found.get("pulled", ()))))
    except (KeyError, TypeError, ValueError):
        return Undone()


def lives(undone: Undone, proc: str) -> bool:
    """Whether the bench still runs that will undo it itself."""
    try:
        return undone.pid > 0 and b"\0bench\0" in (Path(proc) / str(undone.pid) / "cmdline").read_bytes()
    except OSError:
        return False
