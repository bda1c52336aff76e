"""An audit of the dfdaemon that runs: its file, and what kernel, systemd and its own metrics say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from agent.config.model import Config
from agent.dataclass import dataclass
from agent.dragonfly import audit, checks
from agent.dragonfly.command_line import CONFIG_VARIABLE, LEVEL_VARIABLE, LogLevel, option_of
from agent.dragonfly.findings import Finding, NotLooked, Peer, Report, Severity
from agent.dragonfly.place import Place
from agent.dragonfly.reading import Reader
from agent.dragonfly.site import STORAGE
from agent.errors import Problem
from agent.node.facts import Unknown

DEFAULT_CONFIG = "/etc/dragonfly/dfdaemon.yaml"
SERVERS = ("proxy", "health", "metrics", "stats")
_ARM = "aarch64"
_PAGE = 4096
UNIT = "dfdaemon.service"
_GOOD_RESTARTS = ("always", "on-failure")
_LIMITED = "dragonfly_client_proxy_request_rate_limited_total"
_ALL = "dragonfly_client_proxy_request_total"
_SERIES = re.compile(r"(dragonfly_client_\w+)(?:\{(.*?)\})? ([0-9.eE+]+)")


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """What was seen of it."""

    runs: bool
    """A process of this node listens on the port of mirror.url."""
    file: str
    text: str | Unknown
    listening: Mapping[str, tuple[str, ...] | Unknown]
    """Server -> the addresses on which it listens; none: nobody listens on its port."""
    unit: str
    """"" where no service of systemd's runs it, or would."""
    restart: str | Unknown
    metrics: str | Unknown
    arch: str
    page_bytes: int
    native: bool
    """The mode in force is native."""
    log_level: LogLevel | Unknown
    """Of no concern where none runs."""
    lost_ca: str = ""
    """The file that registryMirror.cert names, where it is not there."""
    cache: Place = Place.KEPT
    """What storage.dir is on; kept also where that could not be seen."""
    writes_anywhere: bool = False
    """Its unit lets it write where root may."""
    gives_up: str = ""
    """How soon systemd starts the unit no more: "after 5 starts within 10 s"; "" for never."""


def config_of(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The file that a dfdaemon was started with."""
    return option_of(argv, "--config", "-c") or environment.get(CONFIG_VARIABLE) or DEFAULT_CONFIG


_CERT, _DIRECTORY = "proxy.registryMirror.cert", "storage.dir"


def ca_of(text: str) -> str:
    """The file that registryMirror.cert names; "" for none."""
    return str(_peer(text).value(_CERT) or "")


def storage_of(text: str) -> str:
    """Where pieces lie."""
    return str(_peer(text).value(_DIRECTORY))


def _peer(text: str) -> Peer:
    return audit.dfdaemon("", Reader("").read(text), [])


def report(facts: LiveFacts, config: Config) -> Report | tuple[Problem, ...]:
    """The report, or everything that is wrong with its file."""
    found: list[Finding | NotLooked] = []
    if isinstance(facts.text, Unknown):
        found.append(NotLooked("configuration", f"{facts.file}: {facts.text.reason}", untold=True))
    else:
        reader = Reader(facts.file)
        tree = reader.read(facts.text)
        peer = audit.dfdaemon(facts.file, tree, reader.problems)
        if reader.problems:
            return tuple(reader.problems)
        found += [*audit.of_running(peer, config, tree), *_cache(facts, str(peer.value(_DIRECTORY)))]
    found += _lost_ca(facts)
    found += [*_unit(facts), *_root_writes(facts), *(() if facts.runs else _gone(facts))]
    found += [*_log_level(facts), *_listeners(facts), *_counters(facts)] if facts.runs else []
    found += [*audit.judged_by_ping(config, native=facts.native), audit.OTHER_FILE, audit.ELSEWHERE]
    version = _version(facts.metrics)
    subject = f"dfdaemon{f' {version}' if version else ''} on this node ({facts.file})"
    return Report.of(subject, found)


def _lost_ca(facts: LiveFacts) -> Iterator[Finding]:
    if facts.lost_ca:
        why = "dfdaemon says so in its log once, goes on, and takes any certificate of a registry."
        change = f"put the file there, or name another in {facts.file}, then restart dfdaemon"
        value = f"{facts.lost_ca}, which is not there"
        yield Finding("certificate", Severity.TRAP, _CERT, value, "a file with CAs", why, change)


def _cache(facts: LiveFacts, directory: str) -> Iterator[Finding]:
    if facts.cache is Place.KEPT or (facts.cache is Place.MEMORY and checks.in_memory(directory)):
        return  # of the latter the file itself tells
    memory = facts.cache is Place.MEMORY
    item, why = ("storage", checks.IN_MEMORY) if memory else ("volume", checks.GOES_WITH_POD)
    change = "put it on a disk of the node: a hostPath as `nydus-agent dragonfly render helm-values` has it"
    if facts.unit:
        change = (
            f"set {_DIRECTORY} in {facts.file} to a directory on a disk, "
            f"nydus-agent dragonfly render dfdaemon-unit --storage with it, {_restarted(facts)}"
        )
    yield Finding(item, Severity.TRAP, _DIRECTORY, f"{directory}: {facts.cache}", "a disk of the node", why, change)


def _listeners(facts: LiveFacts) -> Iterator[Finding | NotLooked]:
    locked = not isinstance(facts.text, Unknown) and bool(_peer(facts.text).value("proxy.server.basicAuth"))
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
            yield Finding(item, severity, key, f"listens on {', '.join(others)}", "127.0.0.1", why, change)


def _unit(facts: LiveFacts) -> Iterator[Finding | NotLooked]:
    if not facts.unit:
        yield NotLooked("unit", "no service of systemd's runs it: who does starts it again (the kubelet, say)")
    elif isinstance(facts.restart, Unknown):
        yield NotLooked("unit", facts.restart.reason, untold=True)
    elif facts.restart not in _GOOD_RESTARTS:
        why = "A crash, a kill for want of memory, or no scheduler at boot ends it for good."
        change = f"{_drop_in(facts)}, then systemctl daemon-reload"
        yield Finding("unit", Severity.TRAP, f"{facts.unit}: Restart", facts.restart or "no", "always", why, change)
    elif facts.gives_up:
        why = "dfdaemon ends at once where no scheduler answers: systemd soon starts it no more, and it stays gone."
        change = f"{_drop_in(facts)}, then systemctl daemon-reload"
        value = f"gives up {facts.gives_up}"
        yield Finding("unit", Severity.TRAP, f"{facts.unit}: StartLimitIntervalSec", value, "0", why, change)


def _root_writes(facts: LiveFacts) -> Iterator[Finding]:
    if facts.writes_anywhere:
        why = (
            "Whoever reaches the proxy or dfdaemon.sock, each user of the node too, may name a file that dfdaemon then "
            "makes as root, below /etc as well (X-Dragonfly-Output-Path, seen with 1.5.10)."
        )
        yield Finding("root-writes", Severity.TRAP, f"{facts.unit}: ProtectSystem", "not strict", "strict", why,
                      f"{_drop_in(facts)}, {_restarted(facts)}")  # fmt: skip


def _log_level(facts: LiveFacts) -> Iterator[Finding | NotLooked]:
    level = facts.log_level
    if isinstance(level, Unknown):
        yield NotLooked("log-level", level.reason, untold=True)
    elif level.tells_headers:
        source, change = level.source or "dfdaemon's default", _quieter(facts, level)
        yield Finding(
            "log-level", Severity.TRAP, "log level", f"{level.value} ({source})", "warn", checks.TELLS_HEADERS, change
        )


def _quieter(facts: LiveFacts, level: LogLevel) -> str:
    if not facts.unit:
        return f"set client.config.log.level: warn in the chart's values, then run helm upgrade; {checks.WRITTEN}"
    first = f"take {level.source} out of {facts.unit}; " if level.source not in ("", LEVEL_VARIABLE) else ""
    return f"{first}{_drop_in(facts)}, {_restarted(facts)}; {checks.WRITTEN}"


def _restarted(facts: LiveFacts) -> str:
    return f"then systemctl daemon-reload and systemctl restart {facts.unit}"


def _drop_in(facts: LiveFacts) -> str:
    """Its command. With another storage.dir than it knows of, the drop-in would keep dfdaemon from starting."""
    directory = f"/etc/systemd/system/{facts.unit}.d"
    where = STORAGE if isinstance(facts.text, Unknown) else storage_of(facts.text)
    other = "" if where.rstrip("/") == STORAGE.rstrip("/") else f"--storage {shlex.quote(where)} "
    return f"mkdir -p {directory} && nydus-agent dragonfly render dfdaemon-unit {other}>{directory}/50-restart.conf"


def _counters(facts: LiveFacts) -> Iterator[Finding | NotLooked]:
    if isinstance(facts.metrics, Unknown):
        yield NotLooked("refused", facts.metrics.reason, untold=True)
        return
    totals: dict[str, float] = {}
    for name, _, value in _SERIES.findall(facts.metrics):
        totals[name] = totals.get(name, 0) + float(value)
    refused, every = totals.get(_LIMITED, 0), totals.get(_ALL, 0)
    if refused:
        why = "Since its start it has answered so many requests with 429: its limit of requests is met in earnest."
        value = f"{refused:.0f}{f' of {every:.0f}' if every else ''} requests"
        change = "raise proxy.server.requestRateLimit, then restart dfdaemon"
        yield Finding("refused", Severity.TRAP, _LIMITED, value, "0", why, change)


def _gone(facts: LiveFacts) -> Iterator[Finding | NotLooked]:
    """No dfdaemon runs; one reason may be the kernel."""
    yield NotLooked("dfdaemon", "nobody on this node listens on the port of mirror.url", untold=True)
    if facts.arch == _ARM and facts.page_bytes > _PAGE:
        why = (
            "Upstream's packages for arm64 have an allocator for pages of 4 KiB, and end at once on this kernel; the "
            "container image has one for 64 KiB."
        )
        yield Finding("pages", Severity.TRAP, "page size", f"{facts.page_bytes >> 10} KiB", "4 KiB", why,
                      "run a kernel with pages of 4 KiB, the container image, or a build of your own")  # fmt: skip


def _version(metrics: str | Unknown) -> str:
    """As its own metrics tell it."""
    if isinstance(metrics, Unknown):
        return ""
    labels = next((labels for name, labels, _ in _SERIES.findall(metrics) if name == "dragonfly_client_version"), "")
    told = re.search(r'(?:git_version|version)="([^"]{1,40})"', labels)
    return told[1] if told else ""
