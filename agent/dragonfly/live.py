"""An audit of the dfdaemon that runs: its file, and what kernel, systemd and its own metrics say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.config.model import Config
from agent.dragonfly import audit, checks, service
from agent.dragonfly.command_line import TELLS_HEADERS, WRITTEN, DfdaemonLogLevel
from agent.dragonfly.service import DfdaemonDirectories, DfdaemonService
from agent.dragonfly.settings import AuditFinding, AuditReport, NotLooked, PeerSettings, Severity
from agent.dragonfly.yaml_files import read
from agent.errors import Problem
from agent.facts.node import Unknown

UNIT = "dfdaemon.service"
_LIMITED = "dragonfly_client_proxy_request_rate_limited_total"
_ALL = "dragonfly_client_proxy_request_total"
_SERIES = re.compile(r"(dragonfly_client_\w+)(?:\{(.*?)\})? ([0-9.eE+]+)")
_CERT = "proxy.registryMirror.cert"


@dataclass(frozen=True, slots=True)
class DfdaemonFile:
    """dfdaemon's file, read once."""

    tree: Mapping[str, Any]
    peer: PeerSettings
    problems: tuple[Problem, ...]

    @staticmethod
    def of(file: str, text: str) -> DfdaemonFile:
        """All of it, with everything that is wrong."""
        problems: list[Problem] = []
        tree = read(file, text, problems)
        peer = audit.dfdaemon(file, tree, problems)
        return DfdaemonFile(tree, peer, tuple(problems))

    @property
    def ca(self) -> str:
        """The file that registryMirror.cert names; "" for none."""
        return str(self.peer.value(_CERT) or "")


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

    @property
    def own(self) -> DfdaemonDirectories:
        """Its own directories; the usual ones where its file could not be read."""
        if isinstance(self.settings, Unknown):
            return DfdaemonDirectories()
        return DfdaemonDirectories.of(self.settings.peer, self.logs)


def report(facts: LiveFacts, config: Config) -> AuditReport | tuple[Problem, ...]:
    """The report, or everything that is wrong with its file."""
    found: list[AuditFinding | NotLooked] = []
    settings = facts.settings
    if isinstance(settings, Unknown):
        found.append(NotLooked("configuration", f"{facts.file}: {settings.reason}", untold=True))
    elif settings.problems:
        return settings.problems
    else:
        found += audit.of_dfdaemon(settings.peer, config, settings.tree)
    if facts.lost_ca:
        why = "dfdaemon says so in its log once, goes on, and takes any certificate of a registry."
        change = f"put the file there, or name another in {facts.file}, then restart dfdaemon"
        value = f"{facts.lost_ca}, which is not there"
        found.append(AuditFinding("certificate", Severity.TRAP, _CERT, value, "a file with CAs", why, change))
    found += _unit(facts)
    if facts.runs:
        found += [*_log_level(facts), *_listeners(facts), *_counters(facts)]
    else:
        why = "nobody on this node listens on the port of mirror.url"
        found.append(NotLooked("dfdaemon", why, untold=True))
    found += [*checks.judged_by_ping(config, native=facts.native), audit.OTHER_FILE, audit.ELSEWHERE]
    version = _version(facts.metrics)
    subject = f"dfdaemon{f' {version}' if version else ''} on this node ({facts.file})"
    return AuditReport.of(subject, found)


def _listeners(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    settings = facts.settings
    locked = not isinstance(settings, Unknown) and bool(settings.peer.value("proxy.server.basicAuth"))
    for name, (severity, item, why) in checks.LISTENERS.items():
        if name == "proxy" and locked:
            continue  # whoever reaches it needs a password
        addresses = facts.listening[name]
        if isinstance(addresses, Unknown):
            yield NotLooked(item, addresses.reason, untold=True)
            continue
        others = ", ".join(address for address in addresses if checks.is_open(address))
        if others:
            key = f"{name}.server.ip"
            change = f"set {key}: 127.0.0.1 in {facts.file}, then restart dfdaemon"
            yield AuditFinding(item, severity, key, f"listens on {others}", "127.0.0.1", why, change)


def _unit(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    if facts.service is None:
        why = "no service of systemd's runs it: who does starts it again (the kubelet, say)"
        yield NotLooked("unit", why)
    elif isinstance(facts.service, Unknown):
        yield NotLooked("unit", facts.service.reason, untold=True)
    else:
        yield from service.findings(facts.service, facts.own, facts.file)


def _log_level(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    level = facts.log_level
    if isinstance(level, Unknown):
        yield NotLooked("log-level", level.reason, untold=True)
    elif isinstance(facts.service, DfdaemonService):
        yield from service.log_level(facts.service, facts.own, facts.file, level)
    elif level.tells_headers:
        change = f"set client.config.log.level: warn in the chart's values, then run helm upgrade; {WRITTEN}"
        yield AuditFinding("log-level", Severity.TRAP, "log level", level.text, "warn", TELLS_HEADERS, change)


def _counters(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    if isinstance(facts.metrics, Unknown):
        yield NotLooked("refused", facts.metrics.reason, untold=True)
        return
    totals: dict[str, float] = {}
    for name, _, value in _SERIES.findall(facts.metrics):
        totals[name] = totals.get(name, 0) + float(value)
    refused, every = totals.get(_LIMITED, 0), totals.get(_ALL, 0)
    if refused:
        why = (
            "Since its start it has answered so many requests with 429: its limit of requests is met in "
            "earnest."
        )
        value = f"{refused:.0f}{f' of {every:.0f}' if every else ''} requests"
        change = "raise proxy.server.requestRateLimit, then restart dfdaemon"
        yield AuditFinding("refused", Severity.TRAP, _LIMITED, value, "0", why, change)


def _version(metrics: str | Unknown) -> str:
    """As its own metrics tell it."""
    series = [] if isinstance(metrics, Unknown) else _SERIES.findall(metrics)
    labels = next((labels for name, labels, _ in series if name == "dragonfly_client_version"), "")
    told = re.search(r'(?:git_version|version)="([^"]{1,40})"', labels)
    return told[1] if told else ""
