"""From the text of agent.toml and its drop-ins to one frozen Config, or to every problem at once. Pure.

Settings that are possible one by one but not together are found here too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agent.config.fields import VERSION, VERSION_KEY, Complaints, as_toml, build, read_table, settings
from agent.config.forms import address_of, endpoint_of, listen_of
from agent.config.model import Config, Dialect, LogLevel, Scheme
from agent.errors import Problem

DEFAULT = "(default)"
"""Where a value comes from that no file sets."""


@dataclass(frozen=True, slots=True)
class TomlDocument:
    """One file: its name for messages, its text, and whether it is a drop-in (else the base file)."""

    file: str
    text: str
    drop_in: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """The outcome. `config` is only to be used where `problems` is empty."""

    config: Config
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted key -> the file that set it; keys at their default are not in it."""


def parse(documents: Sequence[TomlDocument]) -> Parsed:
    """Later documents win, tables are merged, lists are replaced.

    Never raises: every problem is in the result.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    set_by_drop_in: dict[str, TomlDocument] = {}
    for document in documents:
        right, wrong = _read_document(document)
        problems += wrong
        if document.drop_in:
            warnings += _conflicts(document, right, values, set_by_drop_in)
        values |= right
        origins |= dict.fromkeys(right, document.file)
    config = cast("Config", build(Config, values))
    suspect = {problem.key for problem in problems}
    for finding in findings(config):
        if suspect.isdisjoint(finding.keys):  # a value that could not be taken says nothing about its pair
            problem = _problem(finding, config, origins)
            if finding.is_error:
                problems.append(problem)
            else:
                warnings.append(str(problem))
    return Parsed(config, tuple(problems), tuple(warnings), origins)


def _read_document(document: TomlDocument) -> tuple[dict[str, object], list[Problem]]:
    """Dotted keys with right values, and what is wrong."""
    complaints = Complaints(document.file)
    try:
        tree = tomllib.loads(document.text)
        version = tree.pop(VERSION_KEY, VERSION)
        if isinstance(version, bool) or version != VERSION:
            complaints.add(VERSION_KEY, version, "is a format that this version of the agent does not know",
                           f"write version = {VERSION}, or upgrade the package")  # fmt: skip
        return read_table(Config, tree, complaints), complaints.problems
    except tomllib.TOMLDecodeError as error:
        complaints.add("", None, f"is not TOML: {error}", "correct the named line; texts need quotes")
    except (ValueError, RecursionError):
        complaints.add("", None, "holds a number of thousands of digits, or is nested too deeply",
                       "write the settings as agent.toml(5) shows")  # fmt: skip
    return {}, complaints.problems


def _conflicts(
    document: TomlDocument,
    right: Mapping[str, object],
    values: Mapping[str, object],
    set_by: dict[str, TomlDocument],
) -> list[str]:
    """Keys that two drop-ins set to different values: the later wins by design, but whoever wrote both should
    know.
    """
    found = [
        f"{set_by[key].file} and {document.file} are in conflict: {key} = {as_toml(values[key])} in the "
        f"first, {as_toml(value)} in the second, which wins; keep one of them"
        for key, value in right.items()
        if key in set_by and values[key] != value
    ]
    set_by |= dict.fromkeys(right, document)
    return found


def _problem(finding: ConfigFinding, config: Config, origins: Mapping[str, str]) -> Problem:
    """A finding about a pair, blamed on the first of its keys that some file sets."""
    effective = dict(values_of(config))
    blamed = next((key for key in finding.keys if _origin(key, origins) != DEFAULT), finding.keys[0])
    others = [
        f"{key} = {as_toml(effective[key])}" for key in finding.keys if key != blamed and key in effective
    ]
    reason = f"{finding.reason} (with {', '.join(others)})" if others else finding.reason
    value = as_toml(effective[blamed]) if blamed in effective else ""
    return Problem(_origin(blamed, origins), blamed, value, reason, finding.action)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """The file that set a key; items of a list ("registries.hosts[0].ca") come from where the list was
    set.
    """
    return origins.get(key.partition("[")[0], DEFAULT)


def values_of(config: Config) -> tuple[tuple[str, object], ...]:
    """(dotted key, effective value) of every setting, in the model's order."""
    found: list[tuple[str, object]] = []
    for setting in settings():
        value: object = config
        for name in setting.key.split("."):
            value = getattr(value, name)
        found.append((setting.key, value))
    return tuple(found)


WATCHDOG_AND_RESTART_MS = 4000
"""The unit's WatchdogSec (3 s) and the restart after it: a lease must outlive a frozen daemon."""


@dataclass(frozen=True, slots=True)
class ConfigFinding:
    """A pair that cannot be (an error) or that does not do what it seems to (a warning)."""

    keys: tuple[str, ...]
    reason: str
    action: str
    is_error: bool = True


def findings(config: Config) -> Iterator[ConfigFinding]:
    """Everything that is wrong or odd about settings taken together."""
    for check in _CHECKS:
        yield from check(config)


def _lease(config: Config) -> Iterator[ConfigFinding]:
    health = config.mirror.health
    if health.lease_ms <= 2 * health.renew_ms:
        yield ConfigFinding(
            ("mirror.health.lease_ms", "mirror.health.renew_ms"),
            "one late renewal would let the fence lapse",
            f"make lease_ms more than twice renew_ms (> {2 * health.renew_ms})",
        )
    elif health.lease_ms < 2 * WATCHDOG_AND_RESTART_MS:
        yield ConfigFinding(
            ("mirror.health.lease_ms",),
            f"a frozen agent is back after up to {WATCHDOG_AND_RESTART_MS} ms; a shorter lease may lapse "
            f"before",
            f"make it at least {2 * WATCHDOG_AND_RESTART_MS}",
            is_error=False,
        )


def _window(config: Config) -> Iterator[ConfigFinding]:
    health = config.mirror.health
    if health.window_ms < health.interval_ms:
        yield ConfigFinding(
            ("mirror.health.window_ms", "mirror.health.interval_ms"),
            "no ping would fall into the window, a well mirror would look hung",
            f"make window_ms at least interval_ms ({health.interval_ms})",
        )


def _dialect(config: Config) -> Iterator[ConfigFinding]:
    mirror = config.mirror
    if mirror.dialect is Dialect.MIRRORS and not mirror.registry:
        yield ConfigFinding(
            ("mirror.dialect", "mirror.registry"),
            "the mirrors dialect must tell Dragonfly which registry to go to",
            "set mirror.registry to the origin's URL, or use the proxy dialect",
        )
    if mirror.dialect is not Dialect.MIRRORS and mirror.registry:
        yield ConfigFinding(
            ("mirror.registry",),
            "has no effect: only the mirrors dialect sends it",
            'remove it, or set mirror.dialect = "mirrors"',
            is_error=False,
        )


def _registry_hosts(config: Config) -> Iterator[ConfigFinding]:
    seen: set[str] = set()
    for index, entry in enumerate(config.registries.hosts):
        key = f"registries.hosts[{index}]"
        if entry.host in seen:
            yield ConfigFinding((f"{key}.host",), f"a second table for {entry.host}", "keep one of them")
        seen.add(entry.host)
        if entry.ca and entry.scheme is Scheme.HTTP:
            yield ConfigFinding(
                (f"{key}.ca", f"{key}.scheme"),
                "a CA says nothing about a registry that is spoken to in plain http",
                'remove ca, or set scheme = "https"',
            )


_SHARED = "the agent and the mirror cannot both listen there"


def _ports(config: Config) -> Iterator[ConfigFinding]:
    """The agent's own listeners against the mirror's and each other."""
    taken = {
        key: endpoint_of(url)
        for key, url in (
            ("mirror.url", config.mirror.url),
            ("mirror.ping_url", config.mirror.ping_url),
            ("mirror.metrics_url", config.mirror.metrics_url),
        )
    }
    listen = listen_of(config.metrics.listen)
    for key, endpoint in taken.items():
        address = address_of(endpoint[0]) if endpoint else None
        if endpoint is None or address is None:
            continue
        if address.is_loopback and endpoint[1] == config.endpoint.port:
            yield ConfigFinding(("endpoint.port", key), _SHARED, "change one of them")
        everywhere = listen is not None and listen[0].is_unspecified and address.is_loopback
        if listen is not None and endpoint[1] == listen[1] and (listen[0] == address or everywhere):
            yield ConfigFinding(("metrics.listen", key), _SHARED, "change one of them")
    if listen and listen[1] == config.endpoint.port and (listen[0].is_loopback or listen[0].is_unspecified):
        yield ConfigFinding(
            ("metrics.listen", "endpoint.port"),
            "the agent's two listeners cannot share a port",
            "change one of them",
        )


def _log_level(config: Config) -> Iterator[ConfigFinding]:
    if config.snapshotter.log_level in (LogLevel.WARN, LogLevel.ERROR):
        yield ConfigFinding(
            ("snapshotter.log_level",),
            "nydusd tells of a bad mirror at info; these lines will be missing",
            'use "info" unless the journal must be kept small',
            is_error=False,
        )


_CHECKS: tuple[Callable[[Config], Iterator[ConfigFinding]], ...] = (
    _lease,
    _window,
    _dialect,
    _registry_hosts,
    _ports,
    _log_level,
)
