"""What Dragonfly's files are rendered for: the page's own values, and the node as agent.toml and the command
line have it.

The page is Dragonfly's on Nydus (d7y.io, v2.4.0 to v2.5.0 and "next"), field for field.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.config.forms import Form as TextForm
from agent.config.forms import address_of, endpoint_of
from agent.config.model import Config, Scheme
from agent.errors import Problem

CHECKED = "chart dragonfly 1.7.4, client v1.5.10"
"""What the differences from the page were checked with."""

BLOBS = "blobs/sha256.*"
PROXY_NODE_PORT, HEALTH_NODE_PORT = 30950, 30951

KIND: Mapping[str, Any] = {
    "kind": "Cluster",
    "apiVersion": "kind.x-k8s.io/v1alpha4",
    "nodes": [
        {"role": "control-plane"},
        {
            "role": "worker",
            "extraPortMappings": [
                {"containerPort": PROXY_NODE_PORT, "hostPort": 4001},
                {"containerPort": HEALTH_NODE_PORT, "hostPort": 4003},
            ],
        },
        {"role": "worker"},
    ],
}

DOWNLOAD = {"pieceTimeout": "40s", "collectedPieceTimeout": "5s"}
SCHEDULER = {"retryBackToSourceLimit": 3, "retryLimit": 5, "retryInterval": "100ms"}
_PEER: Mapping[str, Any] = {
    "proxy": {"prefetch": True, "readBufferSize": 65536},
    "storage": {"writePieceTimeout": "30s", "writeBufferSize": 65536, "readBufferSize": 65536},
    "download": DOWNLOAD,
}

HELM_VALUES: Mapping[str, Any] = {
    "manager": {
        "image": {"repository": "dragonflyoss/manager", "tag": "latest"},
        "metrics": {"enable": True},
    },
    "scheduler": {
        "image": {"repository": "dragonflyoss/scheduler", "tag": "latest"},
        "metrics": {"enable": True},
        "config": {"scheduler": SCHEDULER},
    },
    "seedClient": {
        "image": {"repository": "dragonflyoss/client", "tag": "latest"},
        "metrics": {"enable": True},
        "config": _PEER,
    },
    "client": {"enable": False},
}

PEER_SERVICE: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "peer", "namespace": "dragonfly-system"},
    "spec": {
        "type": "NodePort",
        "ports": [
            {"name": "http-4001", "nodePort": PROXY_NODE_PORT, "port": 4001},
            {"name": "http-4003", "nodePort": HEALTH_NODE_PORT, "port": 4003},
        ],
        "selector": {"app": "dragonfly", "component": "client", "release": "dragonfly"},
    },
}

DFDAEMON: Mapping[str, Any] = {**_PEER, "proxy": {"rules": [{"regex": BLOBS}], **_PEER["proxy"]}}
"""The page has no dfdaemon.yaml as a whole; these are the fields of its best practices."""

# The node

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's store in one file; `update-ca-certificates` puts private CAs into it."""
STATS_PORT = 4004
UPLOAD_PORT = 4000
STORAGE, SOCKET = "/var/lib/dragonfly/", "/run/dragonfly"
LOGS, CACHE = "/var/log/dragonfly", "/var/cache/dragonfly"
"""dfdaemon's own directories by default; 1.5.10 does not touch the last one."""
DANGEROUS = (
    "/etc", "/usr", "/boot", "/run/systemd", "/var/spool/cron", "/var/lib/dpkg", "/root", "/home",
    "/proc/sys", "/sys", "/dev",
)  # fmt: skip
"""Who writes there has root run what he likes, or the machine's memory and disks."""


def plain(path: str) -> str:
    """A path of a setting or of dfdaemon as it is compared: without prefixes, and /var/run is /run."""
    path = path.lstrip("-+").rstrip("/") or "/"
    return path.removeprefix("/var") if above("/var/run", path) else path


def above(mount: str, directory: str) -> bool:
    """Whether a directory is another or below it."""
    return f"{directory.rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")


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
        address = address_of(self.address)
        return address is not None and address.is_loopback


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says."""

    peers: Peers = Peers.CLIENT
    exposed: bool = False
    """Peers listen on all addresses, for the Service."""
    manager: str = ""
    schedulers: tuple[str, ...] = ()
    advertise: str = ""
    storage: str = STORAGE
    socket: str = SOCKET
    """The directory of dfdaemon's socket."""
    logs: str = LOGS
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


def site_of(config: Config, wishes: Wishes) -> Site | tuple[Problem, ...]:
    """The site, or every directory that keeps it from being one."""
    problems = tuple(_wrong_directories(wishes))
    if problems:
        return problems
    mirror, registries = config.mirror, config.registries.hosts
    plain = tuple(entry.host for entry in registries if entry.scheme is Scheme.HTTP)
    proxy, health, metrics = map(_listener, (mirror.url, mirror.ping_url, mirror.metrics_url))
    return Site(proxy, health, metrics, plain, wishes)


def _listener(url: str) -> SocketAddress:
    """Where dfdaemon listens for a URL of agent.toml, which has an address and a port."""
    end = endpoint_of(url)
    assert end is not None
    return SocketAddress(*end)


def _wrong_directories(wishes: Wishes) -> Iterator[Problem]:
    """Directories that cannot be dfdaemon's. Control characters would be lines of a unit."""
    for key, path in (("storage", wishes.storage), ("socketPath", wishes.socket), ("log-dir", wishes.logs)):
        held = next((place for place in DANGEROUS if above(plain(path), place)), "")
        if held:
            what = f"holds {held}: dfdaemon would make files there for whoever asks"
            yield Problem("dfdaemon", key, path, what, "choose one of its own")
        elif (complaint := TextForm.PATH.complaint(path)) is not None or not path.isprintable():
            yield Problem("dfdaemon", key, path, *(complaint or ("cannot be printed", "choose a plain path")))
