"""An audit of the dfdaemon that runs: its file, and what kernel, systemd and its own metrics say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.config.model import Config
from agent.dragonfly import audit, checks, service
from agent.dragonfly.command_line import DfdaemonLogLevel
from agent.dragonfly.findings import AuditFinding, AuditReport, NotLooked, Peer, Severity
from agent.dragonfly.own import Own, own_of
from agent.dragonfly.place import SourcePlace
from agent.dragonfly.reading import Reader
from agent.dragonfly.service import DfdaemonService
from agent.errors import Problem
from agent.node.facts import Unknown

SERVERS = ("proxy", "health", "metrics", "stats")
_ARM = "aarch64"
_PAGE = 4096
UNIT = "dfdaemon.service"
_LIMITED = "dragonfly_client_proxy_request_rate_limited_total"
_ALL = "dragonfly_client_proxy_request_total"
_SERIES = re.compile(r"(dragonfly_client_\w+)(?:\{(.*?)\})? ([0-9.eE+]+)")
_CERT, _DIRECTORY = "proxy.registryMirror.cert", "storage.dir"


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """dfdaemon's file, read once."""

    tree: Mapping[str, Any]
    peer: Peer
    problems: tuple[Problem, ...]

    @staticmethod
    def of(file: str, text: str) -> LiveSettings:
        """All of it, with everything that is wrong."""
        reader = Reader(file)
        tree = reader.read(text)
        peer = audit.dfdaemon(file, tree, reader.problems)
        return LiveSettings(tree, peer, tuple(reader.problems))

    @property
    def ca(self) -> str:
        """The file that registryMirror.cert names; "" for none."""
        return str(self.peer.value(_CERT) or "")

    @property
    def storage(self) -> str:
        """Where pieces lie."""
        return str(self.peer.value(_DIRECTORY))


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """What was seen of it."""

    runs: bool
    """A process of this node listens on the port of mirror.url."""
    file: str
    settings: LiveSettings | Unknown
    listening: Mapping[str, tuple[str, ...] | Unknown]
    """Server -> the addresses on which it listens; none: nobody listens on its port."""
    service: DfdaemonService | Unknown | None
    """None where no service of systemd's runs it, or would."""
    metrics: str | Unknown
    arch: str
    page_bytes: int
    native: bool
    """The mode in force is native."""
    log_level: DfdaemonLogLevel | Unknown
    """Of no concern where none runs."""
    logs: str = ""
    """The directory of its log, where its command line names one."""
    lost_ca: str = ""
    """The file that registryMirror.cert names, where it is not there."""
    cache: SourcePlace = SourcePlace.KEPT
    """What storage.dir is on; kept also where that could not be seen."""

    @property
    def own(self) -> Own:
        """Its own directories; the usual ones where its file could not be read."""
        return Own() if isinstance(self.settings, Unknown) else own_of(self.settings.peer, self.logs)


def report(facts: LiveFacts, config: Config) -> AuditReport | tuple[Problem, ...]:
    """The report, or everything that is wrong with its file."""
    found: list[AuditFinding | NotLooked] = []
    settings = facts.settings
    if isinstance(settings, Unknown):
        found.append(NotLooked("configuration", f"{facts.file}: {settings.reason}", untold=True))
    elif settings.problems:
        return settings.problems
    else:
        found += [*audit.of_running(settings.peer, config, settings.tree), *_cache(facts, settings.storage)]
    found += _lost_ca(facts)
    found += [*_unit(facts), *(() if facts.runs else _gone(facts))]
    found += [*_log_level(facts), *_listeners(facts), *_counters(facts)] if facts.runs else []
    found += [*audit.judged_by_ping(config, native=facts.native), audit.OTHER_FILE, audit.ELSEWHERE]
    version = _version(facts.metrics)
    subject = f"dfdaemon{f' {version}' if version else ''} on this node ({facts.file})"
    return AuditReport.of(subject, found)


def _lost_ca(facts: LiveFacts) -> Iterator[AuditFinding]:
    if facts.lost_ca:
        why = "dfdaemon says so in its log once, goes on, and takes any certificate of a registry."
        change = f"put the file there, or name another in {facts.file}, then restart dfdaemon"
        value = f"{facts.lost_ca}, which is not there"
        yield AuditFinding("certificate", Severity.TRAP, _CERT, value, "a file with CAs", why, change)


def _cache(facts: LiveFacts, directory: str) -> Iterator[AuditFinding]:
    if facts.cache is SourcePlace.KEPT or (facts.cache is SourcePlace.MEMORY and checks.in_memory(directory)):
        return  # of the latter the file itself tells
    memory = facts.cache is SourcePlace.MEMORY
    item, why = ("storage", checks.IN_MEMORY) if memory else ("volume", checks.GOES_WITH_POD)
    change = "put it on a disk of the node: a hostPath as `nydus-agent dragonfly render helm-values` has it"
    if isinstance(facts.service, DfdaemonService):
        name = facts.service.name
        change = (
            f"set {_DIRECTORY} in {facts.file} to a directory on a disk, nydus-agent dragonfly render "
            f"dfdaemon-unit "
            f"--dfdaemon {shlex.quote(facts.file)}, then systemctl daemon-reload and systemctl restart {name}"
        )
    yield AuditFinding(
        item, Severity.TRAP, _DIRECTORY, f"{directory}: {facts.cache}", "a disk of the node", why, change
    )


def _listeners(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    settings = facts.settings
    locked = not isinstance(settings, Unknown) and bool(settings.peer.value("proxy.server.basicAuth"))
    for name in SERVERS:
        if name == "proxy" and locked:
            continue  # whoever reaches it needs a password
        severity, item, why = checks.listening(name)
        addresses = facts.listening[name]
        if isinstance(addresses, Unknown):
            yield NotLooked(item, addresses.reason, untold=True)
            continue
        others = [address for address in addresses if checks.is_open(address)]
        if others:
            key = f"{name}.server.ip"
            change = f"set {key}: 127.0.0.1 in {facts.file}, then restart dfdaemon"
            yield AuditFinding(
                item, severity, key, f"listens on {', '.join(others)}", "127.0.0.1", why, change
            )


def _unit(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    if facts.service is None:
        yield NotLooked(
            "unit", "no service of systemd's runs it: who does starts it again (the kubelet, say)"
        )
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
        value, change = f"{level.value} ({level.source or service.DEFAULT_LEVEL})", _IN_CHART
        yield AuditFinding(
            "log-level", Severity.TRAP, "log level", value, "warn", checks.TELLS_HEADERS, change
        )


_IN_CHART = (
    f"set client.config.log.level: warn in the chart's values, then run helm upgrade; {checks.WRITTEN}"
)


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


def _gone(facts: LiveFacts) -> Iterator[AuditFinding | NotLooked]:
    """No dfdaemon runs; one reason may be the kernel."""
    yield NotLooked("dfdaemon", "nobody on this node listens on the port of mirror.url", untold=True)
    if facts.arch == _ARM and facts.page_bytes > _PAGE:
        why = (
            "Upstream's packages for arm64 have an allocator for pages of 4 KiB, and end at once on this "
            "kernel; the "
            "container image has one for 64 KiB."
        )
        yield AuditFinding("pages", Severity.TRAP, "page size", f"{facts.page_bytes >> 10} KiB", "4 KiB", why,
                      "run a kernel with pages of 4 KiB, the container image, or a build of your "
                      "own")  # fmt: skip


def _version(metrics: str | Unknown) -> str:
    """As its own metrics tell it."""
    if isinstance(metrics, Unknown):
        return ""
    labels = next(
        (labels for name, labels, _ in _SERIES.findall(metrics) if name == "dragonfly_client_version"), ""
    )
    told = re.search(r'(?:git_version|version)="([^"]{1,40})"', labels)
    return told[1] if told else ""
