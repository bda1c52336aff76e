"""The journal: what a unit writes to it from now on, and what we write ourselves.

It is read by a `journalctl --follow` that runs beside us. A child and not libsystemd: it maps the journal's
files, which would count as our own memory (14 MB become 22 to 33), and what journald keeps is parsed in a
process that has no rights. Its lines come 0.1 s after they were written, at most 0.26 s: journald tells its
readers only so often.

We write through structlog, whose last processor makes journal entries with fields of our records, through
journald's native socket (https://systemd.io/JOURNAL_NATIVE_PROTOCOL); where there is no journald, lines on
stderr.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from agent.errors import ProcessError
from agent.outside_json import json_value, whole
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
                "--output-fields=MESSAGE,MESSAGE_ID,N_DROPPED,_PID,_SYSTEMD_UNIT",
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
        at = whole(entry["__MONOTONIC_TIMESTAMP"])
    except (ValueError, KeyError, TypeError):
        at = None
    if at is None:
        return JournalLine("", 0.0, dropped=1)
    if entry.get("_SYSTEMD_UNIT") == unit:
        return JournalLine(_text(entry.get("MESSAGE")), at / 1_000_000, pid=whole(entry.get("_PID")) or 0)
    if entry.get("MESSAGE_ID") == _DROPPED:
        return JournalLine("", at / 1_000_000, dropped=whole(entry.get("N_DROPPED")) or 1)
    return None


def _text(message: object) -> str:
    """A text with bytes that do not print (nydusd paints its lines) comes as a list of numbers
    (journalctl(1)).
    """
    if isinstance(message, str):
        return message
    with contextlib.suppress(TypeError, ValueError):
        return bytes(message).decode(errors="replace") if isinstance(message, list) else ""
    return ""


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]


_SOCKET = "/run/systemd/journal/socket"
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_OWN_NAMES = {"message_id": "MESSAGE_ID", "exception": "NYDUS_AGENT_EXCEPTION"}
_PREFIX = "NYDUS_AGENT_"
_LATER = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_INFO = 20
"""logging's number: bookworm's structlog 22.3 does not take the name."""
_KEPT = 64
"""Entries that a full journal did not take: the story of an hour."""


def configure(socket_path: str = _SOCKET) -> JournalWriter:
    """Send everything that is logged through structlog to the journal (or stderr) from now on."""
    writer = JournalWriter(socket_path)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, writer],
        wrapper_class=structlog.make_filtering_bound_logger(_INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return writer


class JournalWriter:
    """Writes an entry and ends the chain: nothing is left for a logger to print. It never waits: what a
    journal that is full (frozen, or on a disk that hangs) does not take now is kept, a little of it, and sent
    before the next entry.
    """

    def __init__(self, socket_path: str = _SOCKET) -> None:
        self._path = socket_path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # A full journal must not stop the daemon's only thread.
        self._socket.setblocking(False)  # noqa: FBT003
        self._kept: deque[bytes] = deque(maxlen=_KEPT)

    def close(self) -> None:
        """Give the socket up."""
        self._socket.close()

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401
        """structlog's processor interface."""
        level = str(event.pop("level", "info"))
        message = str(event.pop("event", ""))
        priority = _PRIORITIES.get(level, 6)
        self._kept.append(datagram(message, priority, event))
        if not self._sent():
            extra = "".join(f" {key}={value}" for key, value in event.items() if key != "message_id")
            with contextlib.suppress(OSError):
                print(f"<{priority}>{message}{extra}", file=sys.stderr, flush=True)
        return message

    def _sent(self) -> bool:
        """Send what is kept; False where the last of it cannot be sent at all, now or later."""
        taken = True
        while self._kept:
            try:
                self._socket.sendto(self._kept[0], self._path)
            except OSError as error:
                if error.errno in _LATER:
                    return True  # not to stderr either: that is the same journal, and would wait
                taken = False
            else:
                taken = True
            self._kept.popleft()
        return taken


def datagram(message: str, priority: int, fields: MutableMapping[str, Any]) -> bytes:
    """One journal entry: NAME=VALUE lines, and for a value with a line break its length before it."""
    parts = [
        _field("MESSAGE", message),
        _field("PRIORITY", str(priority)),
        _field("SYSLOG_IDENTIFIER", "nydus-agent"),
    ]
    for key, value in fields.items():
        parts.append(_field(_OWN_NAMES.get(key, _PREFIX + key.upper()), str(value)))
    return b"".join(parts)


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
