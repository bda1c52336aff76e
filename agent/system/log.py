"""structlog's last processor: log lines become journal entries with fields, through journald's native socket
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL); where there is no journald, lines on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from collections import deque
from collections.abc import MutableMapping
from typing import Any

import structlog

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
