"""What the operator wants, as frozen values; the defaults live here and nowhere else.

Each field's metadata holds the one-line meaning that agent.toml(5) and the commented example print, so that the
documentation cannot drift from the code. Durations carry their unit in their name.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any


def setting(default: Any, doc: str) -> Any:  # noqa: ANN401 - dataclasses.field is typed this way too
    """A field with its default and its one-line meaning."""
    if isinstance(default, (tuple, str, int, bool, enum.Enum)) or default is None:
        return dataclasses.field(default=default, metadata={"doc": doc})
    return dataclasses.field(default_factory=type(default), metadata={"doc": doc})


class Switch(enum.StrEnum):
    """How the route of running mounts is switched (docs/design.md, "How a route is switched")."""

    AUTO = "auto"
    FENCE = "fence"
    NATIVE = "native"


class Dialect(enum.StrEnum):
    """How nydusd is told about the mirror."""

    AUTO = "auto"
    PROXY = "proxy"
    MIRRORS = "mirrors"


class ContainerdMode(enum.StrEnum):
    """Where containerd uses the nydus snapshotter."""

    DEFAULT = "default"
    RUNTIME_CLASS = "runtime-class"
    PLUGIN_ONLY = "plugin-only"


class RestartPolicy(enum.StrEnum):
    """Whether `apply` may restart containerd."""

    AUTO = "auto"
    NEVER = "never"


class DaemonMode(enum.StrEnum):
    """The snapshotter's daemon_mode: one nydusd per image, or one for all."""

    DEDICATED = "dedicated"
    SHARED = "shared"


class Repair(enum.StrEnum):
    """What happens on drift."""

    REPORT = "report"
    OWN = "own"


class Scheme(enum.StrEnum):
    """How a registry is spoken to."""

    HTTP = "http"
    HTTPS = "https"


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Thresholds of the health machine; the reason of each default is in docs/design.md."""

    interval_ms: int = setting(250, "time between two pings of the mirror")
    window_ms: int = setting(600, "a mirror that answers nothing for this long is hung")
    fall: int = setting(2, "consecutive soft failures until the verdict is down; hard evidence fences at once")
    rise: int = setting(10, "consecutive successes until a mirror that was down may be used again")
    dwell_ms: int = setting(5000, "a mirror stays down at least this long")
    canary_interval_ms: int = setting(2000, "time between two canaries through the mirror's data path")
    tentative_ms: int = setting(3000, "length of the fence that the first hard evidence raises")
    lease_ms: int = setting(10_000, "the fence ends by itself this long after its last renewal")
    renew_ms: int = setting(1000, "time between two renewals of the fence's lease")


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """The Dragonfly endpoint on or near the node."""

    url: str = setting("http://127.0.0.1:4001", "dfdaemon's proxy; an address, not a name")
    ping_url: str = setting("http://127.0.0.1:4003/healthy", "the mirror's own health URL")
    metrics_url: str = setting("http://127.0.0.1:4002/metrics", "the mirror's own metrics; rung 10 counts bytes there")
    switch: Switch = setting(Switch.AUTO, "auto, fence or native")
    dialect: Dialect = setting(Dialect.AUTO, "auto (= proxy), proxy or mirrors")
    user: str = setting("root", "the user that the mirror's listener must belong to, where it is local")
    registry: str = setting("", "mirrors dialect only: value of the X-Dragonfly-Registry header, an origin's URL")
    health: HealthConfig = setting(HealthConfig(), "thresholds")


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """A registry that needs more than its name: plain http, or a private CA."""

    host: str
    scheme: Scheme = setting(Scheme.HTTPS, "http or https")
    ca: str = setting("", "file with the CA that signed its certificate; empty: the system's store")


@dataclass(frozen=True, slots=True)
class RegistriesConfig:
    """Plain images that go through the mirror."""

    include: tuple[str, ...] = setting(("*",), 'registries whose plain images go through the mirror; "*" = all')
    hosts: tuple[RegistryHost, ...] = setting((), "one table per registry that needs a scheme or a CA")


@dataclass(frozen=True, slots=True)
class ContainerdConfig:
    """containerd's side."""

    mode: ContainerdMode = setting(ContainerdMode.DEFAULT, "default, runtime-class or plugin-only")
    restart: RestartPolicy = setting(RestartPolicy.AUTO, "auto, or never (report that a restart is due)")
    config: str = setting("/etc/containerd/config.toml", "containerd's root configuration file")
    address: str = setting("/run/containerd/containerd.sock", "containerd's socket")


@dataclass(frozen=True, slots=True)
class SnapshotterConfig:
    """The nydus snapshotter that we render and manage."""

    daemon_mode: DaemonMode = setting(DaemonMode.DEDICATED, "dedicated or shared")
    root: str = setting("/var/lib/containerd-nydus", "its root directory, at most 70 bytes")
    log_level: str = setting("info", "trace, debug, info, warn or error; symptoms are read at info")


@dataclass(frozen=True, slots=True)
class ArtifactsConfig:
    """Where the nydus binaries come from."""

    nydus: str = setting("system", '"system": what is in PATH')


@dataclass(frozen=True, slots=True)
class ApplyConfig:
    """When the node is changed."""

    on_install: bool = setting(False, "apply after the package was installed or at the next boot")  # noqa: FBT003


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """What happens when something of ours was changed by others."""

    repair: Repair = setting(Repair.REPORT, "report, or own (repair what carries our mark)")


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Behaviour among many nodes."""

    return_window_s: int = setting(60, "after an outage the return to the mirror is spread over this window")


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The local health endpoint."""

    port: int = setting(14003, "TCP port on 127.0.0.1 for /livez, /readyz and /canary")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Metrics beyond the unix socket."""

    listen: str = setting("", 'a second listener for /metrics, such as "127.0.0.1:14004"; empty: none')


@dataclass(frozen=True, slots=True)
class Config:
    """All of agent.toml and its drop-ins."""

    mirror: MirrorConfig = setting(MirrorConfig(), "the Dragonfly endpoint")
    registries: RegistriesConfig = setting(RegistriesConfig(), "plain images")
    containerd: ContainerdConfig = setting(ContainerdConfig(), "containerd's side")
    snapshotter: SnapshotterConfig = setting(SnapshotterConfig(), "the nydus snapshotter")
    artifacts: ArtifactsConfig = setting(ArtifactsConfig(), "the nydus binaries")
    apply: ApplyConfig = setting(ApplyConfig(), "when the node is changed")
    drift: DriftConfig = setting(DriftConfig(), "drift")
    fleet: FleetConfig = setting(FleetConfig(), "many nodes")
    endpoint: EndpointConfig = setting(EndpointConfig(), "the local health endpoint")
    metrics: MetricsConfig = setting(MetricsConfig(), "metrics")
