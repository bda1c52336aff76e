"""What is wrong with the unit that runs dfdaemon: it is not started again, or may write where it should not,
or may not write where it must. systemd tells the settings, all drop-ins together.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.dragonfly.command_line import LEVEL_VARIABLE, TELLS_HEADERS, WRITTEN, DfdaemonLogLevel
from agent.dragonfly.settings import AuditFinding, PeerSettings, Severity
from agent.facts.node import Confinement

STORAGE = "/var/lib/dragonfly/"
_SOCKET, _LOGS, _CACHE = "/run/dragonfly", "/var/log/dragonfly", "/var/cache/dragonfly"
DANGEROUS = (
    "/etc", "/usr", "/boot", "/run/systemd", "/var/spool/cron", "/var/lib/dpkg", "/root", "/home",
    "/proc/sys", "/sys", "/dev",
)  # fmt: skip
"""Who writes there has root run what he likes, or the machine's memory and disks."""
_WHOEVER = (
    "Whoever reaches the proxy or dfdaemon.sock, each user of the node too, may name a file that dfdaemon "
    "then makes"
)
_HOW = "(X-Dragonfly-Output-Path, seen with 1.5.10)"
_TRAP = Severity.TRAP


def plain(path: str) -> str:
    """A path of a setting or of dfdaemon as it is compared: without prefixes, and /var/run is /run."""
    path = path.lstrip("-+").rstrip("/") or "/"
    return path.removeprefix("/var") if above("/var/run", path) else path


def above(mount: str, directory: str) -> bool:
    """Whether a directory is another or below it."""
    return f"{directory.rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")


@dataclass(frozen=True, slots=True)
class DfdaemonDirectories:
    """The directories that are a dfdaemon's own, each by what sets it."""

    storage: str = STORAGE
    """storage.dir."""
    socket: str = _SOCKET
    """That of download.server.socketPath."""
    logs: str = _LOGS
    """--log-dir; dfdaemon makes it with --console too."""
    cache: str = _CACHE
    """server.cacheDir, which 1.5.10 does not touch."""

    @staticmethod
    def of(peer: PeerSettings, logs: str = "") -> DfdaemonDirectories:
        """Those of a dfdaemon.yaml, and of the log's directory where the command line names one."""
        return DfdaemonDirectories(
            storage=str(peer.value("storage.dir")),
            socket=_within(posixpath.dirname(str(peer.value("download.server.socketPath"))), _SOCKET),
            logs=_within(logs, _LOGS) if logs else _LOGS,
            cache=_within(str(peer.value("server.cacheDir")), _CACHE),
        )

    @property
    def all(self) -> tuple[str, ...]:
        """What it may write to."""
        return self.storage, self.socket, self.logs, self.cache

    @property
    def needed(self) -> Mapping[str, str]:
        """Those without which it ends at its start (seen with 1.5.10), by what sets them."""
        return {
            "storage.dir": self.storage,
            "download.server.socketPath": self.socket,
            "--log-dir": self.logs,
        }


def _within(path: str, usual: str) -> str:
    """The usual one where the path is there."""
    return usual if above(usual, plain(path)) else path


@dataclass(frozen=True, slots=True)
class DfdaemonService:
    """dfdaemon's unit."""

    name: str
    restart: str
    """Restart=."""
    gives_up: str
    """How soon systemd starts the unit no more: "after 5 starts within 10 s"; "" for never."""
    confinement: Confinement


def gives_up(starts: int, within_us: float, restart_us: float) -> str:
    """Whether one that ends at once is given up: its limit's starts take less than its limit's time."""
    if not starts or starts * restart_us >= within_us:
        return ""
    return f"after {starts} starts within {within_us / 1e6:g} s"


def findings(service: DfdaemonService, own: DfdaemonDirectories, config: str) -> Iterator[AuditFinding]:
    """All of it; `config`: the file of dfdaemon that this unit starts it with."""
    name, change = service.name, _restarted(service, own, config)
    if service.restart not in ("always", "on-failure"):
        why = "A crash, a kill for want of memory, or no scheduler at boot ends it for good."
        yield AuditFinding("unit", _TRAP, f"{name}: Restart", service.restart or "no", "always", why, change)
    elif service.gives_up:
        why = (
            "dfdaemon ends at once where no scheduler answers: systemd soon starts it no more, and it "
            "stays gone."
        )
        value = f"gives up {service.gives_up}"
        yield AuditFinding("unit", _TRAP, f"{name}: StartLimitIntervalSec", value, "0", why, change)
    yield from _open(service, change)
    held = service.confinement
    writable = [plain(path) for path in held.writable]
    shut = [
        f"{path} ({key})"
        for key, path in own.needed.items()
        if not any(above(place, plain(path)) for place in writable)
    ]
    if shut and held.protect_system == "strict":
        why = (
            "dfdaemon makes files there before it serves anybody, and ends at its next start: Read-only "
            "file system."
        )
        value = f"does not have {', '.join(shut)}"
        yield AuditFinding("directories", _TRAP, f"{name}: ReadWritePaths", value,
                           "all of dfdaemon's own directories", why, change)  # fmt: skip


def _open(service: DfdaemonService, change: str) -> Iterator[AuditFinding]:
    """What whoever reaches it can have it write, beyond its own directories."""
    held = service.confinement
    wrong = _open_settings(held)
    if not wrong:
        return
    key, value = next(iter(wrong.items())) if len(wrong) == 1 else (", ".join(wrong), "none of them is set")
    if held.is_root:
        item, severity = "root-writes", _TRAP
        why = f"{_WHOEVER} as root, and over dfdaemon.sock write over one {_HOW}."
    else:
        item, severity = "user-writes", Severity.ADVICE
        who = "its dynamic user" if held.user == "dynamic" else f"user {held.user}"
        why = f"{_WHOEVER} as {who}, wherever that user may write: not below /etc, but in its home {_HOW}."
    recommended = "ProtectSystem=strict and all else that `dragonfly render dfdaemon-unit` has"
    yield AuditFinding(item, severity, f"{service.name}: {key}", value, recommended, why, change)


def _open_settings(held: Confinement) -> Mapping[str, str]:
    """Setting of systemd's that should keep it from DANGEROUS -> what it lets it write to.

    ProtectSystem=strict leaves the homes, /proc, /sys and /dev to settings of their own (systemd.exec(5)).
    """
    if held.protect_system != "strict":
        return {"ProtectSystem": "not strict"}
    places = {
        "ProtectHome": "" if held.protect_home in ("yes", "true", "read-only", "tmpfs") else "/root, /home",
        "PrivateDevices": "" if held.private_devices or not held.is_root else "/dev",
        "ProtectKernelTunables": "" if held.protect_tunables or not held.is_root else "/proc/sys, /sys",
        "ReadWritePaths": ", ".join(
            place for place in DANGEROUS if any(above(plain(path), place) for path in held.writable)
        ),
    }
    return {key: f"{open_to} can be written to" for key, open_to in places.items() if open_to}


def log_level(
    service: DfdaemonService, own: DfdaemonDirectories, config: str, level: DfdaemonLogLevel
) -> Iterator[AuditFinding]:
    """Credentials in the log."""
    if level.tells_headers:
        takes_out = level.source not in ("", LEVEL_VARIABLE)
        first = f"take {level.source} out of {service.name}; " if takes_out else ""
        change = f"{first}{_restarted(service, own, config)}; {WRITTEN}"
        yield AuditFinding("log-level", _TRAP, "log level", level.text, "warn", TELLS_HEADERS, change)


def _restarted(service: DfdaemonService, own: DfdaemonDirectories, config: str) -> str:
    """How the drop-in is put there. One that does not know a directory or the user would keep dfdaemon from
    starting.
    """
    usual, user = DfdaemonDirectories(), service.confinement.user
    options = ""
    if plain(own.storage) != plain(usual.storage) or (own.socket, own.cache) != (usual.socket, usual.cache):
        options += f"--dfdaemon {shlex.quote(config)} "
    if own.logs != usual.logs:
        options += f"--log-dir {shlex.quote(own.logs)} "
    if not service.confinement.is_root and user != "dynamic":
        options += f"--user {shlex.quote(user)} "
    directory = f"/etc/systemd/system/{service.name}.d"
    return (
        f"mkdir -p {directory} && nydus-agent dragonfly render dfdaemon-unit {options}"
        f">{directory}/50-restart.conf, then systemctl daemon-reload and systemctl restart {service.name}"
    )
