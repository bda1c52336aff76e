"""What the catalogue says of one kind of error."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import Exit


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of error."""

    code: str
    title: str
    exit: Exit
    meaning: str
    action: str
