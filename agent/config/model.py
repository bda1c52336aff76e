"""What the operator wants, as frozen values; the defaults live here and nowhere else.

Each field's metadata holds the one-line meaning that agent.toml(5) and the commented example print, so that
the documentation cannot drift from the code. Durations carry their unit in their name.
"""

from __future__ import annotations

import enum
from dataclasses import MISSING, dataclass, field
from typing import Any

from agent.config.forms import Form


def setting(
    default: Any,
    doc: str,
    *,
    low: int | None = None,
    high: int | None = None,
    form: Form | None = None,
) -> Any:
    """A field with its default, its one-line meaning, and its range (numbers) or form (texts, each item of a
    list).
    """
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "form": form})


def required(doc: str, *, low: int | None = None, high: int | None = None, form: Form | None = None) -> Any:
    """A field that has no default."""
    return setting(MISSING, doc, low=low, high=high, form=form)


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


class Refusals(enum.StrEnum):
    """What follows where Dragonfly refuses a read by its own rules."""

    AROUND = "around"
    HONOUR = "honour"


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


class LogLevel(enum.StrEnum):
    """The snapshotter's log levels, and nydusd's."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Scheme(enum.StrEnum):
    """How a registry is spoken to."""

    HTTP = "http"
    HTTPS = "https"


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Thresholds of the health machine; the reason of each default is in docs/design.md."""

    interval_ms: int = setting(250, "time between two pings of the mirror", low=50, high=60_000)
    window_ms: int = setting(
        600,
        "a mirror that answers nothing for this long is hung; more where it is honestly slow",
        low=100,
        high=60_000,
    )
    fall: int = setting(
        2,
        "consecutive silent rounds that make an outage once they have lasted for 3 s; one fences",
        low=1,
        high=100,
    )
    rise: int = setting(
        10, "consecutive successes until a mirror that was down may be used again", low=1, high=1000
    )
    dwell_ms: int = setting(5000, "a mirror stays down at least this long", low=0, high=3_600_000)
    canary_interval_ms: int = setting(
        1000, "time between two canaries through the mirror's data path", low=200, high=600_000
    )
    tentative_ms: int = setting(
        3000, "length of the fence that the first evidence raises", low=500, high=60_000
    )
    lease_ms: int = setting(
        10_000, "the fence ends by itself this long after its last renewal", low=2000, high=60_000
    )
    renew_ms: int = setting(1000, "time between two renewals of the fence's lease", low=100, high=20_000)


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """The Dragonfly endpoint on or near the node."""

    url: str = setting(
        "http://127.0.0.1:4001", "dfdaemon's proxy; an address, not a name", form=Form.MIRROR_URL
    )
    ping_url: str = setting(
        "http://127.0.0.1:4003/healthy", "the mirror's own health URL", form=Form.HTTP_URL
    )
    metrics_url: str = setting(
        "http://127.0.0.1:4002/metrics",
        "the mirror's own metrics; check 10 counts bytes there",
        form=Form.HTTP_URL,
    )
    switch: Switch = setting(
        Switch.AUTO, "how the route is switched: by the fence, natively by nydusd, or what the node can do"
    )
    dialect: Dialect = setting(Dialect.AUTO, "how nydusd is told about the mirror; auto = proxy")
    user: str = setting(
        "root", "the user that the mirror's listener must belong to, where it is local", form=Form.USER
    )
    registry: str = setting(
        "",
        "mirrors dialect only: the value of the X-Dragonfly-Registry header, an origin's URL",
        form=Form.ORIGIN_URL,
    )
    refusals: Refusals = setting(
        Refusals.AROUND,
        "a read that Dragonfly's block list refuses (403, with nydusd 2.4.3 or newer): around = reads of the "
        "node go to the origin for a while; honour = it fails, the route stays, and status tells of it",
    )
    health: HealthConfig = setting(
        HealthConfig(), "when the mirror is judged well or not, and how the fence is held"
    )


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """A registry that needs more than its name: plain http, or a private CA."""

    host: str = required("the registry's host and port, as image names spell it", form=Form.REGISTRY)
    scheme: Scheme = setting(Scheme.HTTPS, "how the registry is spoken to")
    ca: str = setting(
        "", "file with the CA that signed its certificate; empty: the system's store", form=Form.OPTIONAL_PATH
    )


@dataclass(frozen=True, slots=True)
class RegistriesConfig:
    """Plain images that go through the mirror."""

    include: tuple[str, ...] = setting(
        ("*",), 'registries whose plain images go through the mirror; "*" = all', form=Form.REGISTRY_OR_ALL
    )
    hosts: tuple[RegistryHost, ...] = setting((), "one table per registry that needs a scheme or a CA")
    credentials: str = setting(
        "",
        "docker's configuration with the registries' credentials: a config.json that only root may read, or "
        "the name of a credential of systemd; empty: /root/.docker/config.json",
        form=Form.DOCKER_CONFIG,
    )
    renew_s: int = setting(
        300,
        "docker's configuration is read, and its helpers are asked, this often again, and running nydusd are "
        "given what is new (nydusd 2.4.1, snapshotter 0.15.14 and newer); at most a third of how long a "
        "credential holds; 0: never, and nothing warns of credentials that expire",
        low=0,
        high=43_200,
    )


@dataclass(frozen=True, slots=True)
class ContainerdConfig:
    """containerd's side."""

    mode: ContainerdMode = setting(
        ContainerdMode.DEFAULT,
        "where containerd uses the nydus snapshotter: for all pods, for one runtime class, on request",
    )
    restart: RestartPolicy = setting(
        RestartPolicy.AUTO,
        "whether apply may restart containerd; never: a change that needs it is only reported, until apply "
        "--now",
    )
    config: str = setting(
        "/etc/containerd/config.toml", "containerd's root configuration file", form=Form.PATH
    )
    address: str = setting("/run/containerd/containerd.sock", "containerd's socket", form=Form.SOCKET_PATH)
    unit: str = setting("containerd.service", "the unit whose restart restarts containerd", form=Form.UNIT)
    program: str = setting(
        "containerd", "containerd's program: a name in PATH, or its path", form=Form.PROGRAM
    )


@dataclass(frozen=True, slots=True)
class SnapshotterConfig:
    """The nydus snapshotter that we render and manage."""

    daemon_mode: DaemonMode = setting(DaemonMode.DEDICATED, "one nydusd per image, or one for all")
    root: str = setting(
        "/var/lib/containerd-nydus",
        "its root directory; while containerd has images below another root on this node, the default gives "
        "way to that root, and any other value is refused",
        form=Form.ROOT_PATH,
    )
    log_level: LogLevel = setting(
        LogLevel.INFO,
        "its log level and nydusd's; at error the agent learns too late that reads are refused or cut",
    )


@dataclass(frozen=True, slots=True)
class ProgramsConfig:
    """Which nydus programs the node uses."""

    nydus: str = setting(
        "newest",
        'nydusd and nydus-image: "newest": those of the newest installed package nydus-programs-VERSION, or '
        'where there is none, what is in PATH; a version: those of its package; "system": what is in PATH',
        form=Form.PROGRAMS,
    )
    snapshotter: str = setting(
        "newest",
        "containerd-nydus-grpc: as for nydus, of the packages nydus-snapshotter-programs-VERSION",
        form=Form.PROGRAMS,
    )


@dataclass(frozen=True, slots=True)
class ApplyConfig:
    """When the node is changed."""

    on_install: bool = setting(
        False,  # noqa: FBT003
        "apply after the package was installed or at the next boot",
    )
    restarts_per_hour: int = setting(
        6,
        "containerd and the snapshotter are each restarted at most this often in an hour; what begins by "
        "itself may use half of it",
        low=1,
        high=60,
    )


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """What happens when something of ours was changed by others."""

    repair: Repair = setting(
        Repair.REPORT,
        "on drift: report it, or own: put back what carries our mark and nobody contradicts, within "
        "apply.restarts_per_hour",
    )


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Behaviour among many nodes."""

    return_window_s: int = setting(
        60, "after an outage the return to the mirror is spread over this window", low=0, high=3600
    )
    restart_window_s: int = setting(
        0,
        "restarts of a change that begins by itself are spread over this window: many nodes are upgraded at "
        "once",
        low=0,
        high=14_400,
    )


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The local health endpoint."""

    port: int = setting(14003, "TCP port on 127.0.0.1 for /livez, /readyz and /canary", low=1, high=65535)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Metrics beyond the unix socket."""

    listen: str = setting(
        "", 'a second listener for /metrics, such as "127.0.0.1:14004"; empty: none', form=Form.LISTEN
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All of agent.toml and its drop-ins."""

    mirror: MirrorConfig = setting(MirrorConfig(), "the mirror: Dragonfly's endpoint on or near the node")
    registries: RegistriesConfig = setting(
        RegistriesConfig(), "registries, and which plain images go through the mirror"
    )
    containerd: ContainerdConfig = setting(ContainerdConfig(), "containerd's side")
    snapshotter: SnapshotterConfig = setting(
        SnapshotterConfig(), "the nydus snapshotter, which is rendered and managed"
    )
    programs: ProgramsConfig = setting(ProgramsConfig(), "which nydus programs the node uses")
    apply: ApplyConfig = setting(ApplyConfig(), "when the node is changed")
    drift: DriftConfig = setting(DriftConfig(), "what happens when others change what was applied")
    fleet: FleetConfig = setting(FleetConfig(), "behaviour among many nodes")
    endpoint: EndpointConfig = setting(EndpointConfig(), "the health endpoint on the node's loopback")
    metrics: MetricsConfig = setting(MetricsConfig(), "metrics beyond the unix socket")
