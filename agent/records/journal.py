"""The journal of the open transaction: its undo records, each on the disk before the act that it undoes.

An undo holds its own preconditions: a file is put back only while it is what our step made of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

from agent.codec import ALWAYS, UNWRITTEN, compact, decode, from_json, to_json
from agent.errors import ApplyError
from agent.facts.node import UnitFact
from agent.outside_json import json_object
from agent.ports import Ledger
from agent.steps import UnitVerb

_RESERVE_MARGIN = 1 << 20  # file system metadata, and the journal's own last lines


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
    mode_after: int = field(default=0o644, metadata=ALWAYS)
    """The mode that our step gave it."""
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
    for one in undos:
        units = [unit for unit in found[-1] if isinstance(unit, UnitBack)]
        narrows = isinstance(one, UnitBack) and one.verb in _NARROWING
        if (isinstance(one, PutBack) and units) or (
            narrows and any(unit.verb not in _NARROWING for unit in units)
        ):
            found.append([])
        if not isinstance(one, Nothing):
            found[-1].append(one)
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


@dataclass(frozen=True, slots=True)
class Begin:
    """The first record: who began what, and what the node was able to do before."""

    id: str
    verb: str
    generation: int
    started: float  # seconds since the epoch
    containerd_answered: bool
    mountpoint: str  # first mount point of CRI's ImageFsInfo, "" where CRI did not answer
    root: str = ""  # the snapshotter's root directory


@dataclass(frozen=True, slots=True)
class Intent:
    """One step that was begun; `done` says that its act is known to have ended."""

    number: int
    what: str
    undo: Undo
    done: bool


@dataclass(frozen=True, slots=True)
class Open:
    """A transaction that nobody closed."""

    begin: Begin
    intents: tuple[Intent, ...]


def undos(intents: Sequence[Intent]) -> tuple[Undo, ...]:
    """What undoes them, in the order of the steps; a file's undo knows whether its step ended."""
    return tuple(
        replace(one.undo, done=one.done) if isinstance(one.undo, PutBack) else one.undo for one in intents
    )


class ChangeJournal:
    """Writes the records of one transaction. All methods raise FileError."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._intents: list[Intent] = []

    def begin(self, begin: Begin, *, reserve: int) -> None:
        """Open it; `reserve` bytes and some more are set aside for the undo."""
        self._ledger.begin(compact({"t": "begin", **to_json(begin)}), reserve + _RESERVE_MARGIN)

    def intend(self, what: str, back: Undo) -> int:
        """What is about to be done and what undoes it; returns its number."""
        number = len(self._intents)
        self._ledger.append(compact({"t": "intent", "n": number, "what": what, "undo": to_json(back)}))
        self._intents.append(Intent(number, what, back, done=False))
        return number

    def done(self, number: int) -> None:
        """The act of this intent is over."""
        self._ledger.append(compact({"t": "done", "n": number}))
        intent = self._intents[number]
        self._intents[number] = Intent(intent.number, intent.what, intent.undo, done=True)

    @property
    def intents(self) -> tuple[Intent, ...]:
        """All that was intended so far."""
        return tuple(self._intents)

    def close(self) -> None:
        """The transaction is over, either way."""
        self._ledger.close()


def read(ledger: Ledger) -> Open | None:
    """The open transaction, None where there is none.

    A line that is no JSON is one that was torn when the machine stopped: its act never began, so it is left
    out. Raises ApplyError NNA0410 where the journal is not one of ours, FileError.
    """
    records = [record for line in ledger.lines() if (record := _parse(line)) is not None]
    if not records:
        return None
    try:
        return _understand(records)
    except (KeyError, ValueError, TypeError) as error:
        raise ApplyError(
            "NNA0410", "the journal of an interrupted change cannot be understood", cause=repr(error),
            try_="nydus-agent version; ls -l /var/lib/nydus-agent/journal",
        ) from None  # fmt: skip


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        return json_object(line)
    except ValueError:
        return None


def _understand(records: list[dict[str, Any]]) -> Open:
    first = records[0]
    if first["t"] != "begin":
        raise ValueError("it does not begin with a begin record")
    done = {record["n"] for record in records if record["t"] == "done"}
    intents = [
        Intent(record["n"], record["what"], decode(Undo, record["undo"], "undo"), record["n"] in done)
        for record in records
        if record["t"] == "intent"
    ]
    return Open(from_json(Begin, first), tuple(intents))
