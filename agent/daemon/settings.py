"""What one session of the daemon works with: the operator's configuration joined with what `apply` has set
up."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import paths
from agent.config.forms import Form
from agent.config.model import Config, Refusals, RegistryHost, Scheme
from agent.daemon.documents import Applied
from agent.daemon.http_client import Url, parse_url
from agent.health.evidence import is_loopback
from agent.health.policy import Policy, return_delay_s


@dataclass(frozen=True, slots=True)
class Places:
    """Where the daemon's files lie; `owner` is the uid whose documents count."""

    status: str = paths.STATUS
    api_socket: str = paths.API_SOCKET
    requests: str = paths.REQUESTS
    effective: str = paths.EFFECTIVE
    pin: str = paths.PIN
    proof: str = paths.PROOF
    owner: int = 0
    expected: str = paths.EXPECTED
    drift: str = paths.DRIFT
    root: str = "/"
    memory: str = paths.MEMORY

    @classmethod
    def below(cls, root: str) -> Places:
        """The same below another root directory, whose documents are the caller's own (tests)."""
        if root == "/":
            return cls()

        def at(path: str) -> str:
            return str(Path(root) / path.lstrip("/"))

        return cls(
            at(paths.STATUS), at(paths.API_SOCKET), at(paths.REQUESTS), at(paths.EFFECTIVE), at(paths.PIN),
            at(paths.PROOF), os.geteuid(), at(paths.EXPECTED), at(paths.DRIFT), root,
            at(paths.MEMORY),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """A registry in use."""

    host: str
    port: int
    tls: bool

    @property
    def name(self) -> str:
        """As the operator writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """One session's."""

    mirror_url: str
    proxy: Url
    ping: Url
    policy: Policy
    allowed_uids: frozenset[int]
    """Whose listener counts; empty: not known."""
    origins: tuple[Origin, ...]
    metrics: Url | None = None
    """The mirror's metrics page."""

    @property
    def known_as(self) -> tuple[str, str]:
        """What tells this mirror from another one: where reads go, and where pings."""
        return self.proxy.authority, f"{self.ping.authority}{self.ping.path}"


def settings(config: Config, applied: Applied, node_id: str, *, user_known: bool = True) -> Settings:
    """The mirror that nydusd uses now is the applied one; the configured one counts where nothing was
    applied.

    Without `user_known` (defaults, because the configuration is wrong) nobody's listener is taken for a
    foreign one.
    """
    mirror_url = applied.mirror_url or config.mirror.url
    proxy = parse_url(mirror_url)
    delay_s = return_delay_s(node_id, config.fleet.return_window_s)
    local = is_loopback(proxy.host)
    return Settings(
        mirror_url=mirror_url,
        proxy=proxy,
        ping=parse_url(applied.ping_url or config.mirror.ping_url),
        policy=Policy.of(
            config.mirror.health,
            return_delay_s=delay_s,
            canary=False,
            loopback=local,
            honour_refusals=config.mirror.refusals is Refusals.HONOUR,
        ),
        allowed_uids=_uids(config.mirror.user) if user_known else frozenset(),
        origins=origins(config.registries.hosts, applied.origins),
        metrics=parse_url(config.mirror.metrics_url),
    )


def _uids(user: str) -> frozenset[int]:
    """Root, and the configured user (a name or a uid) where there is such a user."""
    if user.isdigit():
        return frozenset({0, int(user)})
    try:
        return frozenset({0, pwd.getpwnam(user).pw_uid})
    except KeyError:
        return frozenset({0})


def origins(hosts: Sequence[RegistryHost], in_use: Sequence[str]) -> tuple[Origin, ...]:
    """The operator's registries and those that root's verbs saw in use ("host" or "host:port"), each once."""
    schemes = {entry.host: entry.scheme for entry in hosts}
    names = dict.fromkeys([*schemes, *in_use])
    known = (name for name in names if Form.REGISTRY.complaint(name) is None)
    return tuple(_origin(name, tls=schemes.get(name, Scheme.HTTPS) is Scheme.HTTPS) for name in known)


def _origin(name: str, *, tls: bool) -> Origin:
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit():
        return Origin(host.strip("[]"), int(port), tls)
    return Origin(name.strip("[]"), 443 if tls else 80, tls)
