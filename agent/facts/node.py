"""Facts: one frozen picture of the node, on which a whole plan is decided.

Three spellings, never mixed up: a value, `None` for "is not there", and `Unknown` for "could not be read".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from agent import paths
from agent.config.model import Dialect, Scheme, Switch

METRICS_PORTS = (9110, *range(14010, 14020))
"""Where the snapshotter may serve its metrics, on the first that is free: a busy one ends it. 9110 is what
upstream's sample names."""


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file's content and inode data as seen; `sha256` is the precondition of a later write."""

    path: str
    content: bytes
    sha256: str
    mode: int
    uid: int
    gid: int
    symlink_target: str = ""  # the resolved path, where `path` is a symlink


@dataclass(frozen=True, slots=True)
class Moment:
    """Wall clock and boot clock.

    The wall clock may be stepped; the other goes on, also while the machine sleeps.
    """

    now: float
    """Seconds since the epoch."""
    boottime: float = 0.0
    """Seconds of CLOCK_BOOTTIME."""
    boot: str = ""
    """Which boot this is (random(4), boot_id); "" = not known."""
    up_s: float | None = None
    """Seconds since PID 1 was started, at least; None: not known.

    In a container CLOCK_BOOTTIME is that of the host.
    """
    monotonic: float = 0.0
    """Seconds of CLOCK_MONOTONIC, by which systemd tells when a unit was started."""


@dataclass(frozen=True, slots=True)
class FenceAbility:
    """Result of the fence's self-test on this node."""

    usable: bool
    reason: str  # why not, or what was shown


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    address: str
    """Where it is bound: a wildcard address too; an IPv4 address that is mapped into IPv6 as the IPv4
    address.
    """
    port: int
    uid: int
    inode: int
    cgroup: int = 0
    """The kernel's id of the cgroup in which it was made (Linux 5.8); 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be read, with the reason."""

    reason: str


class Arch(enum.StrEnum):
    """Machine of an ELF file or of the node, in Debian's words."""

    AMD64 = "amd64"
    ARM64 = "arm64"
    SCRIPT = "script"  # starts with #!, runs everywhere
    OTHER = "other"


Version: TypeAlias = tuple[int, ...]
"""(2, 2, 0); compared as a tuple."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A program that was found in PATH, or in an installed package."""

    path: str
    arch: Arch
    version: Version | Unknown
    version_text: str = ""
    commit: str | None = None
    """The git commit that it names; "" where it names none; None where it was not asked."""


@dataclass(frozen=True, slots=True)
class ChosenPrograms:
    """The installed package that the configuration comes to for the programs of one upstream project."""

    project: str
    """ "nydus" or "nydus-snapshotter"."""
    version: str
    """Such as "2.4.4"."""


@dataclass(frozen=True, slots=True)
class MissingPrograms:
    """Programs that the configuration asks for and that no installed package has, and what to do."""

    project: str
    reason: str
    try_: str


@dataclass(frozen=True, slots=True)
class Confinement:
    """Who a service runs as, and where systemd lets it write (systemd.exec(5)); "" and () for what is not
    set.
    """

    user: str = ""
    """"" is root too; of DynamicUser= a name, whatever it is."""
    protect_system: str = ""  # no, yes, full, strict
    protect_home: str = ""  # no, yes, read-only, tmpfs
    protect_tunables: bool = False  # ProtectKernelTunables=
    private_devices: bool = False
    writable: tuple[str, ...] = ()
    """ReadWritePaths=, and what StateDirectory= and its like make; as they are written, a "-" before them
    too.
    """

    @property
    def is_root(self) -> bool:
        """Whether its rights are root's."""
        return self.user in ("", "root", "0")


MADE_DIRECTORIES = {
    "StateDirectory": "/var/lib", "RuntimeDirectory": "/run", "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}  # fmt: skip
"""Where systemd makes the directories of a service by these settings."""


@dataclass(frozen=True, slots=True)
class UnitFact:
    """systemd's view of a unit."""

    name: str
    load_state: str  # loaded, not-found, masked, ...
    active_state: str  # active, inactive, failed, ...
    sub_state: str
    unit_file_state: str  # enabled, disabled, ""
    main_pid: int
    invocation_id: str
    fragment_path: str
    drop_in_paths: tuple[str, ...] = ()
    kill_mode: str = ""
    restart: str = ""  # Restart=: no, on-success, always, ...
    result: str = ""
    n_restarts: int = 0
    environment: tuple[str, ...] = ()
    needs_reload: bool = False
    inactive_exit_us: int = 0  # InactiveExitTimestampMonotonic, microseconds of CLOCK_MONOTONIC
    # StartLimitBurst starts within StartLimitIntervalUSec; 0 of either: no limit.
    start_limit: tuple[int, int] = (
        0,
        0,
    )
    restart_us: int = 0  # RestartUSec: how long systemd waits before it starts it again
    confinement: Confinement = Confinement()
    command: tuple[str, ...] = ()  # the first ExecStart=

    @property
    def runs(self) -> bool:
        """Whether it was started and nobody has ended it: it runs, or is about to."""
        return self.active_state in ("active", "activating", "reloading")

    @property
    def enabled(self) -> bool:
        """Whether systemd starts it by itself, be it only until the next boot."""
        return self.starts_at_boot or self.unit_file_state == "enabled-runtime"

    @property
    def starts_at_boot(self) -> bool:
        """Whether it is enabled for good; "enabled-runtime" lasts until the next boot."""
        return self.unit_file_state in ("enabled", "alias")


@dataclass(frozen=True, slots=True)
class PluginFact:
    """One entry of containerd's introspection: `exports` holds address and root of a proxy plugin."""

    type: str
    id: str
    exports: tuple[tuple[str, str], ...] = ()
    init_err: str = ""


@dataclass(frozen=True, slots=True)
class RunningContainerd:
    """What the running daemon says of itself (introspection Server, version, Plugins)."""

    version: Version
    version_text: str
    pid: int
    plugins: tuple[PluginFact, ...]


ANY_HOST = "*"
"""Host of the canary that stands for every https registry that the configuration does not name."""


@dataclass(frozen=True, slots=True)
class TlsCanary:
    """Whether the mirror's rules fetch an https registry by TLS (useTLS) when asked in plain http.

    For a registry that speaks plain http: whether the mirror fetches it without TLS, as it must.
    """

    host: str
    ok: bool | Unknown
    evidence: str


@dataclass(frozen=True, slots=True)
class CertificateCheck:
    """Whether a registry's certificate verifies against its configured CA; asked of the registry, not of the
    mirror.
    """

    host: str
    ok: bool | Unknown
    evidence: str


@dataclass(frozen=True, slots=True)
class CredentialsFact:
    """The file with the registries' credentials, and no secret that is in it."""

    path: str = ""
    """Empty where there is none."""
    problems: tuple[str, ...] = ()
    """Why it cannot be used, each with the file, the key and what to do."""
    try_: str = ""
    """What to do about the first of them."""
    some: bool = False
    """Whether it has a credential, or names a helper."""
    expiring: tuple[tuple[str, str], ...] = ()
    """Those that end by themselves: see `agent.registry.credential`."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in containerd that a change of the snapshotter may leave without a root (see
    `node.images`).
    """

    name: str
    digest: str  # what the name stands for: a manifest or an index
    complete: bool  # the content of all its layers is here
    unpacked: bool  # by our snapshotter
    sandbox: bool  # CRI starts every pod with it
    problem: str = ""
    """Why it cannot be read, so that the three above are not known; "" = it can."""


@dataclass(frozen=True, slots=True)
class SnapshotterRoot:
    """Where the data of a nydus snapshotter lies on this node, ours or somebody's."""

    path: str = ""
    """"" where there is none, or it is the one that the configuration names."""
    evidence: str = ""
    """What says so: a process, or a file and its key."""
    images: int | Unknown = 0
    """How many images containerd has unpacked with it; not asked where the path is the wanted one."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan is decided on."""

    arch: Arch
    systemd_running: bool
    nydusd: Binary | None | Unknown
    nydus_image: Binary | None | Unknown
    snapshotter: Binary | None | Unknown
    containerd: Binary | None | Unknown
    running_containerd: RunningContainerd | None | Unknown
    containerd_unit: UnitFact | None | Unknown
    snapshotter_unit: UnitFact | None | Unknown
    fence: FenceAbility | Unknown
    tls_canaries: tuple[TlsCanary, ...] = ()
    files: tuple[FileFact | tuple[str, None] | tuple[str, Unknown], ...] = ()
    """Every file that a plan may touch: a FileFact, (path, None) where it is not there, (path, Unknown)."""
    dpkg_conffiles: tuple[tuple[str, str], ...] = ()
    """(path, package) of files among `files` that dpkg owns as conffiles."""
    certificates: tuple[CertificateCheck, ...] = ()
    mirror_reads_ns: bool | Unknown = Unknown("not looked at")
    """Whether the mirror takes the registry from `?ns=` (Dragonfly client v1.3.5); older ones ask one fixed
    host.
    """
    nydusd_reads_mirrors: bool | Unknown = Unknown("not looked at")
    """Whether this nydusd knows the `mirrors` block at all (removed in v2.3.5, dragonflyoss/nydus#1723)."""
    listening: tuple[int, ...] | Unknown = ()
    """Those of METRICS_PORTS that somebody listens on."""

    programs: tuple[ChosenPrograms, ...] = ()
    """Where programs are not those in PATH: the packages that they belong to."""
    missing: tuple[MissingPrograms, ...] = ()
    """Programs that are not installed in the version that is asked for. Their facts are None then."""

    images: tuple[StoredImage, ...] | Unknown = ()
    """Sandbox images, and images that lack layers and are not unpacked by our snapshotter; () where nobody
    looked.
    """

    credentials: CredentialsFact = CredentialsFact()

    snapshotter_drop_ins: tuple[FileFact, ...] | Unknown = ()
    """Drop-ins of the snapshotter's unit, in the order in which systemd reads them."""
    containerd_unit_files: tuple[FileFact, ...] | Unknown = ()
    """The own file of containerd's unit, then its drop-ins."""
    containerd_words: tuple[str, ...] = ()
    """The command line of the containerd that runs; () where it is not known."""
    snapshotter_holder: str = ""
    """The service or process, not ours, that listens on the snapshotter's socket."""

    snapshotter_root: SnapshotterRoot = SnapshotterRoot()

    def file(self, path: str) -> FileFact | None | Unknown:
        """The fact about `path`; Unknown where nobody looked."""
        for entry in self.files:
            if isinstance(entry, FileFact):
                if entry.path == path:
                    return entry
            elif entry[0] == path:
                return entry[1]
        return Unknown("not observed")


@dataclass(frozen=True, slots=True)
class Effective:
    """What "auto" came to on this node, each choice with its reason."""

    switch: Switch  # FENCE or NATIVE
    dialect: Dialect  # PROXY or MIRRORS
    use_http: bool
    reasons: tuple[str, ...] = ()
    not_accelerated: tuple[str, ...] = field(default=())
    """Registries whose nydus images go direct, each with the reason."""
    scheme: Scheme = Scheme.HTTPS
    """How nydusd speaks to every registry that has no scheme of its own (one template serves all)."""


SNAPSHOTTER_FILES = (
    paths.NYDUSD_TEMPLATE,
    paths.SNAPSHOTTER_CONFIG,
    paths.SNAPSHOTTER_UNIT_FILE,
    paths.CA_BUNDLE,
)
"""What the snapshotter starts with, beside what is below `paths.REGISTRIES_D`."""


def read_by_snapshotter(path: str) -> bool:
    """Whether the snapshotter reads the file when it starts (and containerd does not)."""
    return path in SNAPSHOTTER_FILES or path.startswith(f"{paths.REGISTRIES_D}/")


def marked(content: bytes) -> bool:
    """The first line carries our mark."""
    return paths.MARK.encode() in content.partition(b"\n")[0]


def ours(facts: Facts, path: str) -> bool:
    """Whether the file is ours from the first byte, or not there yet (then it will be).

    The template is JSON and carries no mark: it is ours where the snapshotter's configuration is.
    """
    fact = facts.file(path)
    if not isinstance(fact, FileFact):
        return True
    if path == paths.NYDUSD_TEMPLATE:
        config = facts.file(paths.SNAPSHOTTER_CONFIG)
        return isinstance(config, FileFact) and marked(config.content)
    return marked(fact.content)
