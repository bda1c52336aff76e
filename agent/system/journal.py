"""What a unit writes to the journal from now on, by a `journalctl --follow` that runs beside us.

A child and not libsystemd: it maps the journal's files, which would count as our own memory (14 MB become 22
to 33), and what journald keeps is parsed in a process that has no rights. Its lines come 0.1 s after they
were written, at most 0.26 s: journald tells its readers only so often.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.errors import ProcessError
from agent.outside_json import json_value
from agent.ports import JournalLine
from agent.system.process import Feed

_DROPPED = "a596d6fe7bfa4994828e72309e95d61e"
"""SD_MESSAGE_JOURNAL_DROPPED (sd-messages.h): "Suppressed N messages from UNIT", with N_DROPPED=N."""
_READ_BYTES = 1 << 18
_LINE_BYTES = 1 << 20
"""journald cuts a line at 48 KiB, which as JSON numbers (a text with escapes in it) is a fifth of this."""
_BLIND = ("not seeing messages", "insufficient permissions", "No journal files")


class UnitJournal:
    """One unit's lines. `start` begins, and begins again after an end."""

    def __init__(self, unit: str, kept: Sequence[str] = ("/run/log/journal", "/var/log/journal")) -> None:
        self._unit = unit
        self._kept = kept
        self._feed: Feed | None = None
        self._rest = b""
        self.problem = "not started"

    def start(self) -> None:
        """See ports.Journal."""
        self.close()
        unit = self._unit
        if not any(file for directory in self._kept for file in Path(directory).glob("*/*.journal")):
            self.problem = "no journal is kept on this node (journald.conf(5), Storage=)"
            return
        try:
            self._feed = Feed((
                "journalctl", "--follow", "--no-tail", f"--since=@{time.time():.3f}", "--all", "--no-pager",
                "--output=json",
                "--output-fields=MESSAGE,MESSAGE_ID,N_DROPPED,_SYSTEMD_UNIT",
                f"_SYSTEMD_UNIT={unit}", "+", "_UID=0", f"OBJECT_SYSTEMD_UNIT={unit}",
            ))  # fmt: skip
        except ProcessError as error:
            self.problem = f"{error.what}: {error.cause}"
        else:
            self.problem = ""

    def fileno(self) -> int:
        """See ports.Journal."""
        return -1 if self._feed is None else self._feed.fileno()

    def lines(self) -> tuple[JournalLine, ...]:
        """See ports.Journal."""
        feed = self._feed
        if feed is None:
            return ()
        piece, complaint = feed.read(_READ_BYTES), feed.complaint()
        if piece == b"":
            self.problem = f"journalctl has ended{': ' + _first_line(complaint) if complaint else ''}"
        elif any(sign in complaint for sign in _BLIND):
            self.problem = _first_line(complaint)
        return tuple(self._parse(piece or b""))

    def close(self) -> None:
        """See ports.Journal."""
        feed, self._feed, self._rest = self._feed, None, b""
        self.problem = self.problem or "not started"
        if feed is not None:
            code = feed.end()
            if code not in (None, 0, -signal.SIGKILL):
                self.problem += f" (exit code {code})"

    def _parse(self, piece: bytes) -> Iterator[JournalLine]:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            self._rest = b""  # what follows of it is no JSON, and counts as dropped too
        for text in whole:
            line = _line(text, self._unit)
            if line is not None:
                yield line


def _line(text: bytes, unit: str) -> JournalLine | None:
    try:
        entry = json_value(text)
        at = int(entry["__MONOTONIC_TIMESTAMP"]) / 1_000_000
    except (ValueError, KeyError, TypeError):
        return JournalLine("", 0.0, dropped=1)
    if entry.get("_SYSTEMD_UNIT") == unit:
        return JournalLine(_text(entry.get("MESSAGE")), at)
    if entry.get("MESSAGE_ID") == _DROPPED:
        count = str(entry.get("N_DROPPED", ""))
        return JournalLine("", at, dropped=int(count) if count.isdigit() else 1)
    return None


def _text(message: object) -> str:
    """A text with bytes that do not print (nydusd paints its lines) comes as a list of numbers
    (journalctl(1)).
    """
    if isinstance(message, str):
        return message
    if isinstance(message, list) and all(isinstance(byte, int) for byte in message):
        return bytes(message).decode(errors="replace")
    return ""


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]
