"""Settings that are possible one by one but not together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.config.forms import address_of, endpoint_of, listen_of
from agent.config.model import Config, Dialect, LogLevel, Scheme

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


def _include(config: Config) -> Iterator[ConfigFinding]:
    include = config.registries.include
    if "*" in include and len(include) > 1:
        yield ConfigFinding(
            ("registries.include",),
            '"*" already means all',
            "keep it alone, or name the registries",
            is_error=False,
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
    _include,
    _ports,
    _log_level,
)
