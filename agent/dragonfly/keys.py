"""Every key of dfdaemon.yaml (client v1.5.10, dragonfly-client-config/src/dfdaemon.rs), the form of its value, and what
it is where nobody writes it: by dfdaemon itself, and by the chart for each kind of peer (chart dragonfly 1.7.4).
"""

from __future__ import annotations

import enum
import ipaddress
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.dragonfly.command_line import LEVELS, level_of
from agent.dragonfly.quantities import bytes_of, seconds_of


class Form(enum.Enum):
    """What a value may be; the value says it in words."""

    BOOL = "true or false"
    COUNT = "a whole number"
    SOME = "a whole number from 1 on"
    PERCENT = "a whole number from 1 to 99"
    PORT = "a port from 1 to 65535"
    TEXT = "a text"
    ADDRESS = "an IP address"
    DURATION = "a duration such as 40s"
    SIZE = "a size such as 10GB"
    RULES = "a list of rules: regex, useTLS, redirect, schedulingPolicy (auto, always)"
    LEVEL = f"one of {', '.join(LEVELS)}"
    ANY = "anything"

    def takes(self, value: object) -> bool:
        """Whether dfdaemon would read it; None stands for "not written" everywhere."""
        return value is None or _TAKES[self](value)


def _whole(least: int, most: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


_is_count = _whole(0, math.inf)


def _is_address(value: object) -> bool:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _is_rules(value: object) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(rule, Mapping)
        and Form.TEXT.takes(rule.get("regex"))
        and Form.BOOL.takes(rule.get("useTLS"))
        and Form.TEXT.takes(rule.get("redirect"))
        and rule.get("schedulingPolicy") in (None, "auto", "always")
        for rule in value
    )


_TAKES: Mapping[Form, Callable[[object], bool]] = {
    Form.BOOL: lambda value: isinstance(value, bool),
    Form.COUNT: _is_count,
    Form.SOME: _whole(1, math.inf),
    Form.PERCENT: _whole(1, 99),
    Form.PORT: _whole(1, 65535),
    Form.TEXT: lambda value: isinstance(value, str),
    Form.ADDRESS: _is_address,
    Form.DURATION: lambda value: isinstance(value, str) and seconds_of(value) is not None,
    Form.SIZE: lambda value: _is_count(value) or (isinstance(value, str) and bytes_of(value) is not None),
    Form.RULES: _is_rules,
    Form.LEVEL: lambda value: not isinstance(value, bool) and level_of(str(value)) is not None,
    Form.ANY: lambda _: True,
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key's form, and dfdaemon's own default (None: it has none, it is of no concern here, or releases differ)."""

    form: Form
    default: object = None


def _servers() -> dict[str, Key]:
    ports = {"proxy": 4001, "health": 4003, "metrics": 4002, "stats": 4004, "upload": 4000}
    keys = {f"{name}.server.port": Key(Form.PORT, port) for name, port in ports.items()}
    keys |= {f"{name}.server.ip": Key(Form.ADDRESS, "0.0.0.0") for name in ports}  # noqa: S104 - theirs
    for name in ("download.server", "upload.server"):
        keys |= {f"{name}.requestRateLimit": Key(Form.COUNT), f"{name}.requestBufferSize": Key(Form.COUNT)}
    for name in ("upload.server", "upload.client", "manager", "scheduler"):
        keys |= {f"{name}.{key}": Key(Form.TEXT) for key in ("caCert", "cert", "key")}
    return keys


KEYS: Mapping[str, Key] = {
    **_servers(),
    **{f"host.{key}": Key(Form.TEXT) for key in ("idc", "location", "hostname")},
    "host.ip": Key(Form.ADDRESS),
    "host.schedulerClusterID": Key(Form.COUNT),
    "server.pluginDir": Key(Form.TEXT),
    "server.cacheDir": Key(Form.TEXT, "/var/cache/dragonfly/dfdaemon"),
    "server.adaptiveRateLimit": Key(Form.ANY),
    "download.server.socketPath": Key(Form.TEXT, "/var/run/dragonfly/dfdaemon.sock"),
    "download.protocol": Key(Form.TEXT),
    "download.bandwidthLimit": Key(Form.SIZE, "50GB"),
    "download.backToSourceBandwidthLimit": Key(Form.SIZE, "50GB"),
    "download.pieceTimeout": Key(Form.DURATION, "360s"),
    "download.collectedPieceTimeout": Key(Form.DURATION, "360s"),
    "download.concurrentPieceCount": Key(Form.SOME, 8),
    "download.backToSourceConcurrentPieceCount": Key(Form.SOME, 8),
    "upload.disableShared": Key(Form.BOOL),
    "upload.bandwidthLimit": Key(Form.SIZE, "50GB"),
    "manager.addr": Key(Form.TEXT),
    "scheduler.announceInterval": Key(Form.DURATION),
    "scheduler.scheduleTimeout": Key(Form.DURATION),
    "scheduler.maxScheduleCount": Key(Form.SOME),
    "seedPeer.enable": Key(Form.BOOL),
    "seedPeer.type": Key(Form.TEXT),
    "dynconfig.refreshInterval": Key(Form.DURATION),
    "storage.server.ip": Key(Form.ADDRESS),
    "storage.server.tcpPort": Key(Form.PORT),
    "storage.server.tcpFastopen": Key(Form.BOOL),
    "storage.server.quicPort": Key(Form.PORT),
    "storage.dir": Key(Form.TEXT, "/var/lib/dragonfly/"),
    "storage.keep": Key(Form.BOOL, False),  # noqa: FBT003 - a default, no switch
    "storage.writePieceTimeout": Key(Form.DURATION, "360s"),
    "storage.writeBufferSize": Key(Form.COUNT),
    "storage.readBufferSize": Key(Form.COUNT),
    "storage.writebackMode": Key(Form.TEXT),
    "storage.cacheCapacity": Key(Form.SIZE),
    "gc.interval": Key(Form.DURATION, "15m"),
    "gc.policy.taskTTL": Key(Form.DURATION, "30d"),
    "gc.policy.persistentTaskTTL": Key(Form.DURATION),
    "gc.policy.persistentCacheTaskTTL": Key(Form.DURATION),
    "gc.policy.pageCacheIdleTimeout": Key(Form.DURATION),
    "gc.policy.diskThreshold": Key(Form.SIZE),
    "gc.policy.diskHighThresholdPercent": Key(Form.PERCENT, 80),
    "gc.policy.diskLowThresholdPercent": Key(Form.PERCENT, 60),
    "proxy.server.requestRateLimit": Key(Form.COUNT, 4000),
    "proxy.server.caCert": Key(Form.TEXT),
    "proxy.server.caKey": Key(Form.TEXT),
    "proxy.server.basicAuth": Key(Form.ANY),
    "proxy.rules": Key(Form.RULES, ()),
    "proxy.registryMirror.addr": Key(Form.TEXT),
    "proxy.registryMirror.cert": Key(Form.TEXT, ""),
    "proxy.registryMirror.enableTaskIDBasedBlobDigest": Key(Form.BOOL),
    "proxy.disableBackToSource": Key(Form.BOOL, False),  # noqa: FBT003
    "proxy.prefetch": Key(Form.BOOL, False),  # noqa: FBT003
    "proxy.prefetchBandwidthLimit": Key(Form.SIZE, "10GB"),
    "proxy.readBufferSize": Key(Form.COUNT),
    "security.enable": Key(Form.BOOL),
    "network.enableIPv6": Key(Form.BOOL),
    "tracing": Key(Form.ANY),
    "backend.requestHeader": Key(Form.ANY),
    "backend.maxRetries": Key(Form.COUNT),
    "backend.enableCacheTemporaryRedirect": Key(Form.BOOL),
    "backend.cacheTemporaryRedirectTTL": Key(Form.DURATION),
    "backend.putConcurrentChunkCount": Key(Form.COUNT),
    "backend.putChunkSize": Key(Form.SIZE),
    "backend.putTimeout": Key(Form.DURATION),
    "backend.enableHickoryDNS": Key(Form.BOOL, True),  # noqa: FBT003
}

RULE_KEYS = ("regex", "useTLS", "redirect", "filteredQueryParams", "schedulingPolicy")

ALIASES = {f"gc.policy.dist{rest}": f"gc.policy.disk{rest}" for rest in
           ("Threshold", "HighThresholdPercent", "LowThresholdPercent")}  # fmt: skip
"""Old spellings that dfdaemon still reads, and the chart writes."""

_RULES = ({"regex": "blobs/sha256.*"},)
_CHART: Mapping[str, object] = {
    "download.concurrentPieceCount": 16,
    "storage.keep": True,
    "gc.policy.taskTTL": "720h",
    "gc.policy.diskHighThresholdPercent": 90,
    "gc.policy.diskLowThresholdPercent": 70,
    "proxy.rules": _RULES,
    "proxy.prefetch": True,
}
CHART_CLIENT: Mapping[str, object] = {
    **_CHART, "proxy.server.requestRateLimit": 50, "download.server.requestRateLimit": 50
}  # fmt: skip
CHART_SEED: Mapping[str, object] = {
    **_CHART,
    "proxy.server.requestRateLimit": 400,
    "download.server.requestRateLimit": 400,
    "download.pieceTimeout": "40s",
    "download.collectedPieceTimeout": "5s",
}
CHART_SCHEDULER: Mapping[str, object] = {"retryBackToSourceLimit": 3, "retryLimit": 5, "retryInterval": "2s"}
CHART_LOG_LEVEL = "info"
CHART_VOLUMES = ({"name": "storage", "emptyDir": {}}, {"name": "logs", "emptyDir": {}})
CHART_MOUNTS = (
    {"name": "storage", "mountPath": "/var/lib/dragonfly/"},
    {"name": "logs", "mountPath": "/var/log/dragonfly/dfdaemon/"},
)
CHART_TAG = "v1.4.0"
"""Of the image of both kinds of peers."""
CHART_ONLY = frozenset({"console", "log", "log.level"})
"""Keys of the chart's `config` that become options of the command line."""
