"""Running nydusd processes as values."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from agent.errors import NydusdError
from agent.ports import NydusdInfo


class FakeNydusd:
    """Daemons by API socket. A socket in `deaf` exists and nobody answers on it."""

    def __init__(self, *daemons: NydusdInfo) -> None:
        self.daemons = {daemon.socket: daemon for daemon in daemons}
        self.metrics: dict[str, Mapping[str, object]] = {}
        self.deaf: set[str] = set()

    def sockets(self, snapshotter_root: str) -> tuple[str, ...]:
        start = posixpath.join(snapshotter_root, "socket") + "/"
        return tuple(sorted(path for path in {*self.daemons, *self.deaf} if path.startswith(start)))

    def info(self, socket: str, *, deadline_s: float) -> NydusdInfo:
        return self._answering(socket)

    def backend_metrics(self, socket: str, *, deadline_s: float) -> Mapping[str, object]:
        self._answering(socket)
        if socket not in self.metrics:
            raise NydusdError("NNA0721", f"nydusd on {socket} answered 404", cause="no counter")
        return self.metrics[socket]

    def _answering(self, socket: str) -> NydusdInfo:
        if socket in self.deaf or socket not in self.daemons:
            raise NydusdError("NNA0721", f"no answer from nydusd on {socket}", cause="connection refused")
        return self.daemons[socket]
