"""What Dragonfly's files are rendered for: the node as agent.toml has it, and what the command line adds."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from agent.config.forms import Form as TextForm
from agent.config.forms import address_of, endpoint_of
from agent.config.model import Config, Scheme
from agent.dragonfly import page
from agent.dragonfly.service import DANGEROUS, DfdaemonDirectories, above, plain

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's store in one file; `update-ca-certificates` puts private CAs into it."""
STATS_PORT = 4004
UPLOAD_PORT = 4000


class Peers(enum.StrEnum):
    """Whose proxy nodes use."""

    CLIENT = "client"
    SEED = "seed-client"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where a server of dfdaemon listens."""

    address: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this node reaches it."""
        return ipaddress.ip_address(self.address).is_loopback


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says."""

    peers: Peers = Peers.CLIENT
    exposed: bool = False
    """Peers listen on all addresses, for the Service."""
    workers: int = 2
    proxy_node_port: int = page.PROXY_NODE_PORT
    health_node_port: int = page.HEALTH_NODE_PORT
    manager: str = ""
    schedulers: tuple[str, ...] = ()
    advertise: str = ""
    storage: str = DfdaemonDirectories().storage
    socket: str = DfdaemonDirectories().socket
    """The directory of dfdaemon's socket."""
    logs: str = DfdaemonDirectories().logs
    cache: str = DfdaemonDirectories().cache
    user: str = ""
    """Whom dfdaemon.service runs dfdaemon as; "" for root."""
    ca: str = SYSTEM_CA
    bandwidth: int = 0
    """Of the node's network, bytes in a second; 0: not known."""


@dataclass(frozen=True, slots=True)
class Site:
    """What all files are made of."""

    proxy: SocketAddress
    health: SocketAddress
    metrics: SocketAddress
    plain: tuple[str, ...]
    """Registries that speak plain http."""
    wishes: Wishes = Wishes()


Wrong = tuple[str, str, str, str]
"""(key of agent.toml or option, value, reason, what to do)."""


def site_of(config: Config, wishes: Wishes) -> Site | tuple[Wrong, ...]:
    """The site, or everything that keeps it from being one."""
    urls = {"mirror.url": config.mirror.url, "mirror.ping_url": config.mirror.ping_url,
            "mirror.metrics_url": config.mirror.metrics_url}  # fmt: skip
    found = {key: _listener(url) for key, url in urls.items()}
    wrong = [
        (key, url, "names no address that dfdaemon could listen on", "write it as http://127.0.0.1:PORT")
        for key, url in urls.items()
        if found[key] is None
    ]
    ports: dict[int, str] = {STATS_PORT: "dfdaemon's own stats.server.port"}
    for key, listener in found.items():
        if listener is not None and listener.port in ports:
            what = f"port {listener.port} is that of {ports[listener.port]} too"
            wrong.append((key, urls[key], what, "give each server of dfdaemon a port of its own"))
        elif listener is not None:
            ports[listener.port] = key
    wrong += _wrong_wishes(wishes)
    proxy, health, metrics = found.values()
    if wrong or proxy is None or health is None or metrics is None:
        return tuple(wrong)
    plain = (entry.host for entry in config.registries.hosts if entry.scheme is Scheme.HTTP)
    return Site(proxy, health, metrics, tuple(plain), wishes)


def _listener(url: str) -> SocketAddress | None:
    end = endpoint_of(url)
    return SocketAddress(*end) if end and address_of(end[0]) else None


def _wrong_wishes(wishes: Wishes) -> Iterable[Wrong]:
    if wishes.proxy_node_port == wishes.health_node_port:
        port = str(wishes.health_node_port)
        yield "--health-node-port", port, "is the proxy's node port too", "choose another"
    for key, path in (("--storage", wishes.storage), ("socketPath", wishes.socket),
                      ("--log-dir", wishes.logs), ("cacheDir", wishes.cache)):  # fmt: skip
        complaint = _complaint(path)
        if complaint:
            yield key, path, *complaint


def _complaint(path: str) -> tuple[str, str] | None:
    """Why a directory cannot be dfdaemon's, and what to do. Control characters would be lines of a unit."""
    if not path.isprintable():
        return "holds what cannot be printed", "choose a plain path"
    held = next((place for place in DANGEROUS if above(plain(path), place)), "")
    if held:
        return f"holds {held}: dfdaemon would make files there for whoever asks", "choose one of its own"
    return TextForm.PATH.complaint(path)
