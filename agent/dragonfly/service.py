"""What is wrong with the unit that runs dfdaemon: it is not started again, or may write where it should not,
or may not write where it must.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from agent.dragonfly.checks import TELLS_HEADERS, WRITTEN
from agent.dragonfly.command_line import LEVEL_VARIABLE, DfdaemonLogLevel
from agent.dragonfly.confinement import may_write, open_places, plain
from agent.dragonfly.findings import AuditFinding, Severity
from agent.dragonfly.own import Own
from agent.dragonfly.place import above
from agent.node.facts import Confinement

_GOOD_RESTARTS = ("always", "on-failure")
_TRAP, _ADVICE = Severity.TRAP, Severity.ADVICE
_WHOEVER = (
    "Whoever reaches the proxy or dfdaemon.sock, each user of the node too, may name a file that "
    "dfdaemon then makes"
)
_HOW = "(X-Dragonfly-Output-Path, seen with 1.5.10)"


@dataclass(frozen=True, slots=True)
class DfdaemonService:
    """dfdaemon's unit."""

    name: str
    restart: str
    """Restart=."""
    gives_up: str
    """How soon systemd starts the unit no more: "after 5 starts within 10 s"; "" for never."""
    confinement: Confinement
    whose: str = ""
    """Whose settings those are that its file does not write; "" where all were asked for."""
    written: frozenset[str] = frozenset()
    """The settings that its file writes."""

    def shown_value(self, key: str, value: str) -> str:
        """A value for a message, with whose it is where nobody wrote it."""
        return f"{value} ({self.whose})" if self.whose and key not in self.written else value


def gives_up(starts: int, within_us: float, restart_us: float) -> str:
    """Whether one that ends at once is given up: as many starts as the limit allows take less than its
    time.
    """
    if not starts or starts * restart_us >= within_us:
        return ""
    return f"after {starts} starts within {within_us / 1e6:g} s"


def findings(service: DfdaemonService, own: Own, config: str) -> Iterator[AuditFinding]:
    """All of it; `config`: the file of dfdaemon that this unit starts it with."""
    yield from _starts(service, own, config)
    yield from _writes(service, own, config)
    yield from _own(service, own, config)


def _starts(service: DfdaemonService, own: Own, config: str) -> Iterator[AuditFinding]:
    change = f"{drop_in(service, own, config)}, then systemctl daemon-reload"
    if service.restart not in _GOOD_RESTARTS:
        why = "A crash, a kill for want of memory, or no scheduler at boot ends it for good."
        value = service.shown_value("Restart", service.restart or "no")
        yield AuditFinding("unit", _TRAP, f"{service.name}: Restart", value, "always", why, change)
    elif service.gives_up:
        why = (
            "dfdaemon ends at once where no scheduler answers: systemd soon starts it no more, and it "
            "stays gone."
        )
        value = service.shown_value("StartLimitIntervalSec", f"gives up {service.gives_up}")
        yield AuditFinding("unit", _TRAP, f"{service.name}: StartLimitIntervalSec", value, "0", why, change)


def _writes(service: DfdaemonService, own: Own, config: str) -> Iterator[AuditFinding]:
    """What whoever reaches it can have it write, beyond its own directories."""
    held, places = service.confinement, open_places(service.confinement)
    if not places:
        return
    strict = held.protect_system == "strict"
    key = ", ".join(dict.fromkeys(_guard(held, place) for place in places)) if strict else "ProtectSystem"
    value = f"{', '.join(places)} can be written to" if strict else "not strict"
    if held.is_root:
        item, severity = "root-writes", _TRAP
        why = f"{_WHOEVER} as root, below {places[0]} as well {_HOW}, and over dfdaemon.sock write over one."
    else:
        item, severity = "user-writes", _ADVICE
        who = "its dynamic user" if held.user == "dynamic" else f"user {held.user}"
        why = f"{_WHOEVER} as {who}, wherever that user may write: not below /etc, but in its home {_HOW}."
    yield AuditFinding(item, severity, f"{service.name}: {key}", service.shown_value(key, value), _STRICT,
                       why,
                  _restarted(service, own, config))  # fmt: skip


_STRICT = "ProtectSystem=strict and all else that `dragonfly render dfdaemon-unit` has"


def _guard(held: Confinement, place: str) -> str:
    """The setting that should keep it from a place."""
    if any(above(plain(path), place) for path in held.writable):
        return "ReadWritePaths"
    return _GUARDS.get(place, "ProtectSystem")


_GUARDS = {
    "/root": "ProtectHome", "/home": "ProtectHome", "/dev": "PrivateDevices", "/sys": "ProtectKernelTunables",
    "/proc/sys": "ProtectKernelTunables",
}  # fmt: skip


def _own(service: DfdaemonService, own: Own, config: str) -> Iterator[AuditFinding]:
    """What keeps it from starting."""
    shut = [
        f"{path} ({key})"
        for key, path in own.needed.items()
        if not may_write(service.confinement, plain(path))
    ]
    if shut:
        why = (
            "dfdaemon makes files there before it serves anybody, and ends at its next start: Read-only "
            "file system."
        )
        yield AuditFinding("directories", _TRAP, f"{service.name}: ReadWritePaths",
                           f"does not have {', '.join(shut)}",
                      "all of dfdaemon's own directories", why, _restarted(service, own, config))  # fmt: skip


def log_level(
    service: DfdaemonService, own: Own, config: str, level: DfdaemonLogLevel
) -> Iterator[AuditFinding]:
    """Credentials in the log."""
    if level.tells_headers:
        first = (
            f"take {level.source} out of {service.name}; " if level.source not in ("", LEVEL_VARIABLE) else ""
        )
        change = f"{first}{_restarted(service, own, config)}; {WRITTEN}"
        value = f"{level.value} ({level.source or DEFAULT_LEVEL})"
        yield AuditFinding("log-level", _TRAP, "log level", value, "warn", TELLS_HEADERS, change)


DEFAULT_LEVEL = "dfdaemon's default"


def _restarted(service: DfdaemonService, own: Own, config: str) -> str:
    after = f"then systemctl daemon-reload and systemctl restart {service.name}"
    return f"{drop_in(service, own, config)}, {after}"


def drop_in(service: DfdaemonService, own: Own, config: str) -> str:
    """Its command. A drop-in that does not know a directory or the user would keep dfdaemon from starting."""
    directory = f"/etc/systemd/system/{service.name}.d"
    usual, user = Own(), service.confinement.user
    options = []
    if plain(own.storage) != plain(usual.storage) or (own.socket, own.cache) != (usual.socket, usual.cache):
        options.append(f"--dfdaemon {shlex.quote(config)} ")
    if own.logs != usual.logs:
        options.append(f"--log-dir {shlex.quote(own.logs)} ")
    if not service.confinement.is_root and user != "dynamic":
        options.append(f"--user {shlex.quote(user)} ")
    rendered = f"nydus-agent dragonfly render dfdaemon-unit {''.join(options)}"
    return f"mkdir -p {directory} && {rendered}>{directory}/50-restart.conf"
