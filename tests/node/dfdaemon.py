"""The files of a real dfdaemon on a node, or on a host beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.node.boot import Node

ON_NODE = "/opt/test-dfdaemon"
NO_RATE_LIMIT = 100_000
"""Requests a second: more than any test makes. dfdaemon's own default is 4000, its chart's 50."""


@dataclass(frozen=True)
class Host:
    """A host of dfdaemon's: it and its scheduler reach each other, and other peers it, by these addresses.

    What belongs to the host alone (proxy, metrics, health) is on its loopback. A scheduler takes two
    dfdaemons for two hosts where address or name differ.
    """

    name: str = "node"
    address: str = "127.0.0.1"
    scheduler: str = "127.0.0.1:8002"

    @property
    def label(self) -> str:
        """Names its directories: "dragonfly" for the node's own."""
        return "dragonfly" if self.name == "node" else f"dragonfly-{self.name}"

    @property
    def storage(self) -> str:
        return f"/var/lib/{self.label}"

    @property
    def socket(self) -> str:
        return f"/run/{self.label}/dfdaemon.sock"


@dataclass(frozen=True)
class Settings:
    """What tests change of a dfdaemon."""

    rules: tuple[dict[str, Any], ...]
    port: int = 4001
    request_rate_limit: int = NO_RATE_LIMIT


def written(node: Node, host: Host, settings: Settings) -> list[str]:
    """The command that starts it, its two files written."""
    base = f"/etc/{host.label}"
    node.write(f"{base}/dfdaemon.yaml", json.dumps(_config(host, settings)))  # JSON is YAML
    node.write(f"{base}/dynconfig.yaml", json.dumps({"scheduler": {"addrs": [host.scheduler]}}))
    argv = [f"{ON_NODE}/bin/dfdaemon", "--config", f"{base}/dfdaemon.yaml"]
    return [*argv, "--dynconfig", f"{base}/dynconfig.yaml", "--console"]


def _config(host: Host, settings: Settings) -> dict[str, Any]:
    loopback, others = {"ip": "127.0.0.1"}, {"ip": host.address}
    return {
        "host": {**others, "hostname": host.name},
        "server": {"cacheDir": f"/var/cache/{host.label}"},
        "download": {"server": {"socketPath": host.socket}},
        "upload": {"server": {**others, "port": 4000}},
        "backend": {
            "enableHickoryDNS": False
        },  # its own resolver does not read /etc/hosts, where the node's names are
        "storage": {"dir": host.storage, "server": others},
        "metrics": {"server": {**loopback, "port": 4002}},
        "health": {"server": {**loopback, "port": 4003}},
        "stats": {"server": {**loopback, "port": 4004}},
        "proxy": {
            "server": {**loopback, "port": settings.port, "requestRateLimit": settings.request_rate_limit},
            "rules": list(settings.rules),
            "prefetch": True,
        },
    }
