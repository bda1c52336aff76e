"""Every key of dfdaemon.yaml (client v1.5.10, dragonfly-client-config/src/dfdaemon.rs), the form of its
value, and what it is where nobody writes it: by dfdaemon itself, and by the chart for each kind of peer
(chart dragonfly 1.7.4).
"""

from __future__ import annotations

import enum
import ipaddress
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.dragonfly.command_line import LEVELS, level_of
from agent.dragonfly.quantities import bytes_of, seconds_of


class KeyForm(enum.Enum):
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
        and KeyForm.TEXT.takes(rule.get("regex"))
        and KeyForm.BOOL.takes(rule.get("useTLS"))
        and KeyForm.TEXT.takes(rule.get("redirect"))
        and rule.get("schedulingPolicy") in (None, "auto", "always")
        for rule in value
    )


_TAKES: Mapping[KeyForm, Callable[[object], bool]] = {
    KeyForm.BOOL: lambda value: isinstance(value, bool),
    KeyForm.COUNT: _is_count,
    KeyForm.SOME: _whole(1, math.inf),
    KeyForm.PERCENT: _whole(1, 99),
    KeyForm.PORT: _whole(1, 65535),
    KeyForm.TEXT: lambda value: isinstance(value, str),
    KeyForm.ADDRESS: _is_address,
    KeyForm.DURATION: lambda value: isinstance(value, str) and seconds_of(value) is not None,
    KeyForm.SIZE: lambda value: _is_count(value) or (isinstance(value, str) and bytes_of(value) is not None),
    KeyForm.RULES: _is_rules,
    KeyForm.LEVEL: lambda value: not isinstance(value, bool) and level_of(str(value)) is not None,
    KeyForm.ANY: lambda _: True,
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key's form, and dfdaemon's own default (None: it has none, it is of no concern here, or releases
    differ).
    """

    form: KeyForm
    default: object = None


def _servers() -> dict[str, Key]:
    ports = {"proxy": 4001, "health": 4003, "metrics": 4002, "stats": 4004, "upload": 4000}
    keys = {f"{name}.server.port": Key(KeyForm.PORT, port) for name, port in ports.items()}
    keys |= {f"{name}.server.ip": Key(KeyForm.ADDRESS, "0.0.0.0") for name in ports}  # noqa: S104 - theirs
    for name in ("download.server", "upload.server"):
        keys |= {
            f"{name}.requestRateLimit": Key(KeyForm.COUNT),
            f"{name}.requestBufferSize": Key(KeyForm.COUNT),
        }
    for name in ("upload.server", "upload.client", "manager", "scheduler"):
        keys |= {f"{name}.{key}": Key(KeyForm.TEXT) for key in ("caCert", "cert", "key")}
    return keys


KEYS: Mapping[str, Key] = {
    **_servers(),
    **{f"host.{key}": Key(KeyForm.TEXT) for key in ("idc", "location", "hostname")},
    "host.ip": Key(KeyForm.ADDRESS),
    "host.schedulerClusterID": Key(KeyForm.COUNT),
    "server.pluginDir": Key(KeyForm.TEXT),
    "server.cacheDir": Key(KeyForm.TEXT, "/var/cache/dragonfly/dfdaemon"),
    "server.adaptiveRateLimit": Key(KeyForm.ANY),
    "download.server.socketPath": Key(KeyForm.TEXT, "/var/run/dragonfly/dfdaemon.sock"),
    "download.protocol": Key(KeyForm.TEXT),
    "download.bandwidthLimit": Key(KeyForm.SIZE, "50GB"),
    "download.backToSourceBandwidthLimit": Key(KeyForm.SIZE, "50GB"),
    "download.pieceTimeout": Key(KeyForm.DURATION, "360s"),
    "download.collectedPieceTimeout": Key(KeyForm.DURATION, "360s"),
    "download.concurrentPieceCount": Key(KeyForm.SOME, 8),
    "download.backToSourceConcurrentPieceCount": Key(KeyForm.SOME, 8),
    "upload.disableShared": Key(KeyForm.BOOL),
    "upload.bandwidthLimit": Key(KeyForm.SIZE, "50GB"),
    "manager.addr": Key(KeyForm.TEXT),
    "scheduler.announceInterval": Key(KeyForm.DURATION),
    "scheduler.scheduleTimeout": Key(KeyForm.DURATION),
    "scheduler.maxScheduleCount": Key(KeyForm.SOME),
    "seedPeer.enable": Key(KeyForm.BOOL),
    "seedPeer.type": Key(KeyForm.TEXT),
    "dynconfig.refreshInterval": Key(KeyForm.DURATION),
    "storage.server.ip": Key(KeyForm.ADDRESS),
    "storage.server.tcpPort": Key(KeyForm.PORT),
    "storage.server.tcpFastopen": Key(KeyForm.BOOL),
    "storage.server.quicPort": Key(KeyForm.PORT),
    "storage.dir": Key(KeyForm.TEXT, "/var/lib/dragonfly/"),
    "storage.keep": Key(KeyForm.BOOL, False),  # noqa: FBT003 - a default, no switch
    "storage.writePieceTimeout": Key(KeyForm.DURATION, "360s"),
    "storage.writeBufferSize": Key(KeyForm.COUNT),
    "storage.readBufferSize": Key(KeyForm.COUNT),
    "storage.writebackMode": Key(KeyForm.TEXT),
    "storage.cacheCapacity": Key(KeyForm.SIZE),
    "gc.interval": Key(KeyForm.DURATION, "15m"),
    "gc.policy.taskTTL": Key(KeyForm.DURATION, "30d"),
    "gc.policy.persistentTaskTTL": Key(KeyForm.DURATION),
    "gc.policy.persistentCacheTaskTTL": Key(KeyForm.DURATION),
    "gc.policy.pageCacheIdleTimeout": Key(KeyForm.DURATION),
    "gc.policy.diskThreshold": Key(KeyForm.SIZE),
    "gc.policy.diskHighThresholdPercent": Key(KeyForm.PERCENT, 80),
    "gc.policy.diskLowThresholdPercent": Key(KeyForm.PERCENT, 60),
    "proxy.server.requestRateLimit": Key(KeyForm.COUNT, 4000),
    "proxy.server.caCert": Key(KeyForm.TEXT),
    "proxy.server.caKey": Key(KeyForm.TEXT),
    "proxy.server.basicAuth": Key(KeyForm.ANY),
    "proxy.rules": Key(KeyForm.RULES, ()),
    "proxy.registryMirror.addr": Key(KeyForm.TEXT),
    "proxy.registryMirror.cert": Key(KeyForm.TEXT, ""),
    "proxy.registryMirror.enableTaskIDBasedBlobDigest": Key(KeyForm.BOOL),
    "proxy.disableBackToSource": Key(KeyForm.BOOL, False),  # noqa: FBT003
    "proxy.prefetch": Key(KeyForm.BOOL, False),  # noqa: FBT003
    "proxy.prefetchBandwidthLimit": Key(KeyForm.SIZE, "10GB"),
    "proxy.readBufferSize": Key(KeyForm.COUNT),
    "security.enable": Key(KeyForm.BOOL),
    "network.enableIPv6": Key(KeyForm.BOOL),
    "tracing": Key(KeyForm.ANY),
    "backend.requestHeader": Key(KeyForm.ANY),
    "backend.maxRetries": Key(KeyForm.COUNT),
    "backend.enableCacheTemporaryRedirect": Key(KeyForm.BOOL),
    "backend.cacheTemporaryRedirectTTL": Key(KeyForm.DURATION),
    "backend.putConcurrentChunkCount": Key(KeyForm.COUNT),
    "backend.putChunkSize": Key(KeyForm.SIZE),
    "backend.putTimeout": Key(KeyForm.DURATION),
    "backend.enableHickoryDNS": Key(KeyForm.BOOL, True),  # noqa: FBT003
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
