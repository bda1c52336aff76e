"""Tells the service manager how the daemon fares (sd_notify(3), systemd.service(5)): a datagram, written by
hand, because the bindings cost 10 MB of memory.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class SystemdNotify:
    """The manager named by the environment (NOTIFY_SOCKET, WATCHDOG_USEC); without one, nothing is sent. The
    socket stays open between the watchdog's signs of life; it is bound to no manager, so a new one is reached
    all the same.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract socket's name.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        usec = environment.get("WATCHDOG_USEC", "")
        self._socket: socket.socket | None = None
        self.watchdog_s = int(usec) / 1_000_000 if usec.isdigit() else 0.0

    def send(self, *assignments: str) -> None:
        """See ports.Notify."""
        if not self._address:
            return
        # A manager that restarts itself is away for a moment. Waiting for it would stop the daemon's only
        # thread. Nor is a lack of descriptors a reason to end.
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.settimeout(0)
            # A line is an assignment: what a mirror said, in the text of STATUS=, must not become one of its
            # own.
            lines = (" ".join(assignment.splitlines()) for assignment in assignments)
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)

    def close(self) -> None:
        """Give the socket up."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()
