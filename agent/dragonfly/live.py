"""An audit of the dfdaemon that runs: its file, and what kernel, systemd and its own metrics say."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.config.model import Config
from agent.dragonfly import audit, checks
from agent.dragonfly.command_line import LEVEL_VARIABLE, TELLS_HEADERS, WRITTEN, DfdaemonLogLevel
from agent.dragonfly.settings import AuditFinding, AuditReport, NotLooked, PeerSettings, Severity
from agent.dragonfly.site import DANGEROUS, LOGS, SOCKET, STORAGE, above, plain
from agent.dragonfly.yaml_files import read
from agent.errors import Problem
from agent.facts.node import Confinement, Unknown
from agent.outside_json import samples, total

UNIT = "dfdaemon.service"
_LIMITED = "dragonfly_client_proxy_request_rate_limited_total"
_CERT = "proxy.registryMirror.cert"
_TRAP = Severity.TRAP


@dataclass(frozen=True, slots=True)
class DfdaemonFile:
    """dfdaemon's file, read once."""

    peer: PeerSettings
    problems: tuple[Problem, ...] = ()

    @staticmethod
    def of(file: str, text: str) -> DfdaemonFile:
        """All of it, with everything that is wrong."""
        problems: list[Problem] = []
        peer = audit.dfdaemon(file, read(file, text, problems), problems)
        return DfdaemonFile(peer, tuple(problems))

    @property
    def ca(self) -> str:
        """The file that registryMirror.cert names; "" for none."""
        return str(self.peer.value(_CERT) or "")

    @property
    def storage(self) -> str:
        """Where pieces lie."""
        return str(self.peer.value("storage.dir"))

    @property
    def socket(self) -> str:
        """The directory of its socket, the usual one where it is below that."""
        path = posixpath.dirname(str(self.peer.value("download.server.socketPath")))
        return SOCKET if above(SOCKET, plain(path)) else path


@dataclass(frozen=True, slots=True)
class DfdaemonService:
    """dfdaemon's unit."""

    name: str
    restart: str
    """Restart=."""
    gives_up: str
    """How soon systemd starts the unit no more: "after 5 starts within 10 s"; "" for never."""
    confinement: Confinement


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """What was seen of it."""

    runs: bool
    """A process of this node listens on the port of mirror.url."""
    file: str
    settings: DfdaemonFile | Unknown
    listening: Mapping[str, tuple[str, ...] | Unknown]
    """Server -> the addresses on which it listens; none: nobody listens on its port."""
    service: DfdaemonService | Unknown | None
    """None where no service of systemd's runs it, or would."""
    metrics: str | Unknown
    native: bool
    """The mode in force is native."""
    log_level: DfdaemonLogLevel | Unknown
    """Of no concern where none runs."""
    logs: str = ""
    """The directory of its log, where its command line names one."""
    lost_ca: str = ""
    """The file that registryMirror.cert names, where it is not there."""


def gives_up(starts: int, within_us: float, restart_us: float) -> str:
    """Whether one that ends at once is given up: its limit's starts take less than its limit's time."""
    if not starts or starts * restart_us >= within_us:
        return ""
    return f"after {starts} starts within {within_us / 1e6:g} s"


def report(facts: LiveFacts, config: Config) -> AuditReport | tuple[Problem, ...]:
    """The report, or everything that is wrong with its file."""
    found: list[AuditFinding | NotLooked] = []
    if isinstance(facts.settings, Unknown):
        found.append(NotLooked("configuration", f"{facts.file}: {facts.settings.reason}", untold=True))
    elif facts.settings.problems:
        return facts.settings.problems
    else:
        found += checks.settings(facts.settings.peer, config)
    if facts.lost_ca:
        why = "dfdaemon says so in its log once, goes on, and takes any certificate of a registry."
        change = f"put the file there, or name another in {facts.file}, then restart dfdaemon"
        value = f"{facts.lost_ca}, which is not there"
        found.append(AuditFinding("certificate", _TRAP, _CERT, value, "a file with CAs", why, change))
    if isinstance(facts.service, DfdaemonService):
        found += _unit(facts.service, facts)
    elif facts.service is None:
        found.append(NotLooked("unit", "no service of systemd's runs it: who does starts it again"))
    else:
        found.append(NotLooked("unit", facts.service.reason, untold=True))
    if facts.runs:
        found += [*_log_level(facts), *_listeners(facts), *_counters(facts)]
    else:
        why = "nobody on this node listens on the port of mirror.url"
        found.append(NotLooked("dfdaemon", why, untold=True))
    found += checks.judged_by_ping(config, native=facts.native)
    version = _version(facts.metrics)
    return AuditReport.of(f"dfdaemon{version and f' {version}'} on this node ({facts.file})", found)


def _listeners(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    settings = facts.settings
    locked = not isinstance(settings, Unknown) and bool(settings.peer.value("proxy.server.basicAuth"))
    for name, (severity, item, why) in checks.LISTENERS.items():
        addresses = facts.listening[name]
        if name == "proxy" and locked:
            continue  # whoever reaches it needs a password
        if isinstance(addresses, Unknown):
            yield NotLooked(item, addresses.reason, untold=True)
        elif others := ", ".join(address for address in addresses if checks.is_open(address)):
            key = f"{name}.server.ip"
            change = f"set {key}: 127.0.0.1 in {facts.file}, then restart dfdaemon"
            yield AuditFinding(item, severity, key, f"listens on {others}", "127.0.0.1", why, change)


def _log_level(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    level, service = facts.log_level, facts.service
    if isinstance(level, Unknown):
        yield NotLooked("log-level", level.reason, untold=True)
    elif level.tells_headers:
        change = "set client.config.log.level: warn in the chart's values, then run helm upgrade"
        if isinstance(service, DfdaemonService):
            takes_out = level.source not in ("", LEVEL_VARIABLE)
            first = f"take {level.source} out of {service.name}; " if takes_out else ""
            change = f"{first}{_drop_in(service, facts)}"
        change = f"{change}; {WRITTEN}"
        yield AuditFinding("log-level", _TRAP, "log level", level.text, "warn", TELLS_HEADERS, change)


def _counters(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    if isinstance(facts.metrics, Unknown):
        yield NotLooked("refused", facts.metrics.reason, untold=True)
        return
    refused = total(facts.metrics, _LIMITED)
    if refused:
        why = "Since its start it has answered so many requests with 429: its limit is met in earnest."
        change = "raise proxy.server.requestRateLimit, then restart dfdaemon"
        yield AuditFinding("refused", _TRAP, _LIMITED, f"{refused} requests", "0", why, change)


def _version(metrics: str | Unknown) -> str:
    """As its own metrics tell it."""
    series = () if isinstance(metrics, Unknown) else samples(metrics)
    labels = next((one.labels for one in series if one.name == "dragonfly_client_version"), "")
    told = re.search(r'(?:git_version|version)="([^"]{1,40})"', labels)
    return told[1] if told else ""


# Its unit: it is not started again, or may write where it should not, or may not where it must. systemd tells
# the settings, all drop-ins together.


def _unit(service: DfdaemonService, facts: LiveFacts) -> Iterator[AuditFinding]:
    name, held, change = service.name, service.confinement, _drop_in(service, facts)
    if service.restart not in ("always", "on-failure"):
        why = "A crash, a kill for want of memory, or no scheduler at boot ends it for good."
        yield AuditFinding("unit", _TRAP, f"{name}: Restart", service.restart or "no", "always", why, change)
    elif service.gives_up:
        why = "dfdaemon ends at once where no scheduler answers: systemd soon starts it no more."
        value = f"gives up {service.gives_up}"
        yield AuditFinding("unit", _TRAP, f"{name}: StartLimitIntervalSec", value, "0", why, change)
    if held.is_root and (wrong := _open_settings(held)):
        why = (
            "Whoever reaches the proxy or dfdaemon.sock, each user of the node too, may name a file that "
            "dfdaemon then makes as root, and over dfdaemon.sock write over one (X-Dragonfly-Output-Path, "
            "seen with 1.5.10)."
        )
        recommended = "ProtectSystem=strict and all else that `dragonfly render dfdaemon-unit` has"
        value = "; ".join(wrong.values())
        key = f"{name}: {', '.join(wrong)}"
        yield AuditFinding("root-writes", _TRAP, key, value, recommended, why, change)
    writable = [plain(path) for path in held.writable]
    needed = {"storage.dir": _storage(facts), "download.server.socketPath": _socket(facts),
              "--log-dir": facts.logs or LOGS}  # fmt: skip
    shut = [
        f"{path} ({key})"
        for key, path in needed.items()
        if not any(above(place, plain(path)) for place in writable)
    ]
    if shut and held.protect_system == "strict":
        why = (
            "dfdaemon makes files there before it serves, and ends at its next start: Read-only file system."
        )
        value = f"does not have {', '.join(shut)}"
        yield AuditFinding("directories", _TRAP, f"{name}: ReadWritePaths", value,
                           "all of dfdaemon's own directories", why, change)  # fmt: skip


def _open_settings(held: Confinement) -> Mapping[str, str]:
    """Setting of systemd's that should keep root's dfdaemon from DANGEROUS -> what it lets it write to.

    ProtectSystem=strict leaves the homes, /proc, /sys and /dev to settings of their own (systemd.exec(5)).
    """
    if held.protect_system != "strict":
        return {"ProtectSystem": "not strict"}
    places = {
        "ProtectHome": "" if held.protect_home in ("yes", "true", "read-only", "tmpfs") else "/root, /home",
        "PrivateDevices": "" if held.private_devices else "/dev",
        "ProtectKernelTunables": "" if held.protect_tunables else "/proc/sys, /sys",
        "ReadWritePaths": ", ".join(
            place for place in DANGEROUS if any(above(plain(path), place) for path in held.writable)
        ),
    }
    return {key: f"{open_to} can be written to" for key, open_to in places.items() if open_to}


def _storage(facts: LiveFacts) -> str:
    return STORAGE if isinstance(facts.settings, Unknown) else facts.settings.storage


def _socket(facts: LiveFacts) -> str:
    return SOCKET if isinstance(facts.settings, Unknown) else facts.settings.socket


def _drop_in(service: DfdaemonService, facts: LiveFacts) -> str:
    """How the drop-in is put there. One that does not know a directory or the user would keep dfdaemon from
    starting.
    """
    user, options = service.confinement.user, ""
    if plain(_storage(facts)) != plain(STORAGE) or _socket(facts) != SOCKET:
        options += f"--dfdaemon {shlex.quote(facts.file)} "
    if facts.logs and not above(LOGS, plain(facts.logs)):
        options += f"--log-dir {shlex.quote(facts.logs)} "
    if not service.confinement.is_root and user != "dynamic":
        options += f"--user {shlex.quote(user)} "
    directory = f"/etc/systemd/system/{service.name}.d"
    return (
        f"mkdir -p {directory} && nydus-agent dragonfly render dfdaemon-unit {options}"
        f">{directory}/50-restart.conf, then systemctl daemon-reload and systemctl restart {service.name}"
    )
