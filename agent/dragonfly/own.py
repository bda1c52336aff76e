"""The directories that are a dfdaemon's own: it writes there, and the drop-in of its unit must let it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.dragonfly.command_line import LOG_VARIABLE, option_of
from agent.dragonfly.confinement import plain
from agent.dragonfly.findings import Peer
from agent.dragonfly.place import above

STORAGE = "/var/lib/dragonfly/"
_SOCKET, _LOGS, _CACHE = "/run/dragonfly", "/var/log/dragonfly", "/var/cache/dragonfly"


@dataclass(frozen=True, slots=True)
class Own:
    """Each by what sets it."""

    storage: str = STORAGE
    """storage.dir."""
    socket: str = _SOCKET
    """That of download.server.socketPath."""
    logs: str = _LOGS
    """--log-dir; dfdaemon makes it with --console too."""
    cache: str = _CACHE
    """server.cacheDir, which 1.5.10 does not touch."""

    @property
    def all(self) -> tuple[str, ...]:
        """What may be written to."""
        return self.storage, self.socket, self.logs, self.cache

    @property
    def needed(self) -> Mapping[str, str]:
        """Those without which it ends at its start (seen with 1.5.10), by what sets them."""
        return {
            "storage.dir": self.storage,
            "download.server.socketPath": self.socket,
            "--log-dir": self.logs,
        }


def own_of(peer: Peer, logs: str = "") -> Own:
    """Those of a dfdaemon.yaml, and of the log's directory where the command line names one."""
    socket = posixpath.dirname(str(peer.value("download.server.socketPath")))
    return Own(
        storage=str(peer.value("storage.dir")),
        socket=_within(socket, _SOCKET),
        logs=_within(logs, _LOGS) if logs else _LOGS,
        cache=_within(str(peer.value("server.cacheDir")), _CACHE),
    )


def _within(path: str, usual: str) -> str:
    """The usual one where the path is there."""
    return usual if above(usual, plain(path)) else path


def logs_of(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The log's directory of a dfdaemon that is started so; "" where it is the usual."""
    return option_of(argv, "--log-dir") or environment.get(LOG_VARIABLE) or ""
