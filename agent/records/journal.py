"""The journal of the open transaction: its undo records, each on the disk before the act that it undoes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.codec import compact, decode, from_json, to_json
from agent.errors import ApplyError
from agent.outside_json import json_value
from agent.ports import Ledger
from agent.records import undo

_RESERVE_MARGIN = 1 << 20  # file system metadata, and the journal's own last lines


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
    undo: undo.Undo
    done: bool


@dataclass(frozen=True, slots=True)
class Open:
    """A transaction that nobody closed."""

    begin: Begin
    intents: tuple[Intent, ...]


def undos(intents: Sequence[Intent]) -> tuple[undo.Undo, ...]:
    """What undoes them, in the order of the steps; a file's undo knows whether its step ended."""
    return tuple(
        replace(one.undo, done=one.done) if isinstance(one.undo,
                                                       undo.PutBack) else one.undo for one in intents
    )  # fmt: skip


class ChangeJournal:
    """Writes the records of one transaction. All methods raise FileError."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._intents: list[Intent] = []

    def begin(self, begin: Begin, *, reserve: int) -> None:
        """Open it; `reserve` bytes and some more are set aside for the undo."""
        self._ledger.begin(compact({"t": "begin", **to_json(begin)}), reserve + _RESERVE_MARGIN)

    def intend(self, what: str, back: undo.Undo) -> int:
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
        record = json_value(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _understand(records: list[dict[str, Any]]) -> Open:
    first = records[0]
    if first["t"] != "begin":
        raise ValueError("it does not begin with a begin record")
    done = {record["n"] for record in records if record["t"] == "done"}
    intents = [
        Intent(record["n"], record["what"], decode(undo.Undo, record["undo"], "undo"), record["n"] in done)
        for record in records
        if record["t"] == "intent"
    ]
    return Open(from_json(Begin, first), tuple(intents))
