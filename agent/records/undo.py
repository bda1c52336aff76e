"""What undoes a step: values that go into the journal before the act, and the order in which they run.

An undo holds its own preconditions: a file is put back only while it is what our step made of it. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from agent.codec import ALWAYS, UNWRITTEN
from agent.facts.node import UnitFact
from agent.steps import UnitVerb


def digest(content: bytes | None) -> str:
    """SHA-256 in hex; "" stands for a file that is not there."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class PutBack:
    """A file as it was: `before` None means that it was not there."""

    TAG: ClassVar = "file"
    path: str
    before: bytes | None
    after: bytes | None  # what our step makes of it; None = removed
    mode: int = field(default=0o644, metadata=ALWAYS)
    uid: int = field(default=0, metadata=ALWAYS)
    gid: int = field(default=0, metadata=ALWAYS)
    missing: tuple[str, ...] = field(default=(), metadata=ALWAYS)
    """Directories above it that were not there, outermost first."""
    owned: bool = field(default=True, metadata=ALWAYS)
    mode_after: int | None = None
    """The mode that our step gave it; None in records of version 0.1.0, which kept every mode."""
    done: bool = field(default=True, metadata=UNWRITTEN)
    """False: the step is not known to have ended, and where the file is neither `before` nor `after` it never
    wrote. Not recorded: the journal's own marks say it."""

    @property
    def before_sha256(self) -> str:
        """Digest of `before`."""
        return digest(self.before)

    @property
    def after_sha256(self) -> str:
        """Digest of `after`."""
        return digest(self.after)


@dataclass(frozen=True, slots=True)
class UnitBack:
    """A unit as it was before a job or a change of its state."""

    TAG: ClassVar = "unit"
    unit: str
    verb: UnitVerb
    was_active: bool
    was_enabled: bool


@dataclass(frozen=True, slots=True)
class ReloadBack:
    """systemd read its unit files: it must do so again after they were put back."""

    TAG: ClassVar = "reload"


@dataclass(frozen=True, slots=True)
class Scratch:
    """Files of ours that live only during their step: removed where a crash left them."""

    TAG: ClassVar = "scratch"
    path: str
    sha256: str
    also: tuple[tuple[str, str], ...] = ()
    """(path, digest) of others."""
    missing: tuple[str, ...] = ()
    """Directories above them that were not there, outermost first."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The step looks and does not touch."""

    TAG: ClassVar = "nothing"


Undo: TypeAlias = PutBack | Scratch | UnitBack | ReloadBack | Nothing


def unit_back(fact: UnitFact | None, unit: str, verb: UnitVerb) -> UnitBack:
    """The undo of a unit step, from what systemd says of the unit just before it."""
    active = fact is not None and fact.runs
    enabled = fact is not None and fact.enabled
    return UnitBack(unit, verb, active, enabled)


_NARROWING = (UnitVerb.STOP, UnitVerb.DISABLE)


@dataclass(frozen=True, slots=True)
class Stage:
    """Undos of one stretch of the plan: files, then the jobs that made programs read them."""

    files: tuple[PutBack, ...]  # newest first
    units: tuple[UnitBack, ...]  # newest first
    reload: bool
    scratch: tuple[Scratch, ...] = ()


def stages(undos: Sequence[Undo]) -> tuple[Stage, ...]:
    """The undos (given in the order of their steps) as stages, newest first.

    A plan is stretches of "write files, then restart what reads them". A restart is undone by another restart
    *after* the files of its stretch were put back, so newest-first alone would be wrong inside of a stretch.
    What was stopped after a restart is up again before the files of that restart go back: they may name it.
    """
    found: list[list[Undo]] = [[]]
    for undo in undos:
        units = [one for one in found[-1] if isinstance(one, UnitBack)]
        narrows = isinstance(undo, UnitBack) and undo.verb in _NARROWING
        if (isinstance(undo, PutBack) and units) or (
            narrows and any(one.verb not in _NARROWING for one in units)
        ):
            found.append([])
        if not isinstance(undo, Nothing):
            found[-1].append(undo)
    return tuple(
        Stage(
            tuple(one for one in reversed(part) if isinstance(one, PutBack)),
            tuple(one for one in reversed(part) if isinstance(one, UnitBack)),
            any(isinstance(one, ReloadBack) for one in part),
            tuple(one for one in part if isinstance(one, Scratch)),
        )
        for part in reversed(found)
        if part
    )
