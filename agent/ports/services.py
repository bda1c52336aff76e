"""What answers on sockets: containerd, the snapshotter, nydusd, dfdaemon, registries."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.registry.credential import Credential, Looked, Secret

if TYPE_CHECKING:
    from agent.facts.node import PluginFact, RunningContainerd


@dataclass(frozen=True, slots=True)
class ImageFsInfo:
    """CRI's ImageFsInfo: mount points, the default snapshotter's first."""

    mountpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image in a namespace of containerd: its name, and the manifest or index that the name stands for."""

    name: str
    digest: str
    media_type: str
    labels: Mapping[str, str]


class Containerd(Protocol):
    """containerd on one socket. Raises subclasses of ContainerdError."""

    def server(self, *, deadline_s: float) -> RunningContainerd:
        """Version, pid and plugins in one picture."""

    def plugins(self, *, deadline_s: float) -> tuple[PluginFact, ...]:
        """All plugins by introspection."""

    def image_fs_info(self, *, deadline_s: float) -> ImageFsInfo:
        """CRI ImageFsInfo."""

    def cri_status(self, *, deadline_s: float) -> Mapping[str, str]:
        """CRI Status(verbose): conditions as "RuntimeReady" -> "true", and info's keys."""

    def prepare_and_remove(self, snapshotter: str, namespace: str, key: str, *, deadline_s: float) -> None:
        """Prepare and Remove a unique key through containerd in a private namespace, which is removed too."""

    def snapshot_keys(
        self, snapshotter: str, namespace: str, *, deadline_s: float
    ) -> tuple[tuple[str, Mapping[str, str]], ...]:
        """(key, labels) of all snapshots of a snapshotter in a namespace."""

    def snapshot_parents(self, snapshotter: str, namespace: str, *, deadline_s: float) -> Mapping[str, str]:
        """Key -> the key of what it is built on ("": nothing), of all snapshots of a snapshotter in a
        namespace.
        """

    def namespaces(self, *, deadline_s: float) -> tuple[str, ...]:
        """All namespaces."""

    def images(self, namespace: str, *, deadline_s: float) -> tuple[ImageRecord, ...]:
        """All images of a namespace, by name."""

    def digests(self, namespace: str, *, deadline_s: float) -> frozenset[str]:
        """All blobs of a namespace in containerd's content store."""

    def unpacked(self, snapshotter: str, namespace: str, *, deadline_s: float) -> frozenset[str]:
        """Digests of the images' configurations by which containerd holds snapshots of a snapshotter.

        They are labels in containerd's own database: the snapshotter need not answer, nor be known.
        """

    def pull(
        self, name: str, runtime: str, *, credential: Credential | None = None, deadline_s: float
    ) -> None:
        """Pull an image through CRI, to be unpacked by the snapshotter of a runtime handler ("": the default
        one).

        `credential`: who we are at its registry, as the kubelet hands it on; CRI takes no registry token
        (None then).
        """

    def content(self, namespace: str, digest: str, *, deadline_s: float, cap: int = 4 << 20) -> bytes:
        """A blob of containerd's content store (a manifest, an index), at most `cap` bytes.

        Raises ContainerdNotFoundError where it is not there (any more), ContainerdError where it is longer.
        """


class SnapshotterSocket(Protocol):
    """The snapshotter's own gRPC socket."""

    def alive(self, address: str, *, deadline_s: float) -> None:
        """Stat of a random key answers NotFound. Raises ContainerdUnavailableError and others."""

    def holder(self, address: str, *, deadline_s: float) -> int:
        """The process that listens; 0: one of another pid namespace. Raises ContainerdUnavailableError."""


@dataclass(frozen=True, slots=True)
class NydusdInfo:
    """One running nydusd as its API socket tells it."""

    socket: str
    id: str
    version: str
    state: str
    pid: int | None
    backends: tuple[tuple[str, Mapping[str, object]], ...]
    """(mount point, effective backend configuration)."""


class Nydusd(Protocol):
    """Running nydusd processes of a snapshotter root, and short-lived private ones."""

    def sockets(self, snapshotter_root: str) -> tuple[str, ...]:
        """API sockets under the snapshotter's root."""

    def info(self, socket: str, *, deadline_s: float) -> NydusdInfo:
        """GET /api/v1/daemon. Raises NydusdError."""

    def backend_metrics(self, socket: str, *, deadline_s: float) -> Mapping[str, object]:
        """GET /api/v1/metrics/backend. Raises NydusdError."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


class Http(Protocol):
    """One bounded request: no redirects, no proxy environment, body cap, deadline for the whole exchange."""

    def get(
        self,
        url: str,
        *,
        deadline_s: float,
        proxy: str = "",
        headers: Mapping[str, str] | None = None,
        body_cap: int = 65536,
        unix_socket: str = "",
    ) -> HttpAnswer:
        """GET; with `proxy` in absolute form through it. Raises HttpError."""


class TlsSight(enum.StrEnum):
    """What a listener of ours saw first."""

    TLS = "tls"
    PLAIN = "plain"
    NOBODY = "nobody"


class Tls(Protocol):
    """TLS towards registries, and whether others speak it.

    Only root's oneshots have this port (ssl is heavy).
    """

    def verify(self, host: str, ca: str, *, deadline_s: float) -> str:
        """ "" where the certificate of HOST[:PORT] verifies against the CA file (empty: the system's store),
        else why not. Raises HttpError where nobody answers, FileError where the CA cannot be read.
        """

    def sight(self, fetch: Callable[[str], None], *, user: str, deadline_s: float) -> TlsSight:
        """Listen on a loopback port, call `fetch` with its "ADDRESS:PORT", say how the first client began to
        speak.

        Only clients of root and of `user` count, because every local user can connect. The client is cut off
        after its first byte. HttpErrors of `fetch` are expected and end it. Raises HttpError where no port
        can be opened.
        """


class Credentials(Protocol):
    """Where this node keeps who it is at registries."""

    def find(self, registry: str, *, deadline_s: float) -> Looked:
        """The credential for a registry, named as in images ("docker.io", "127.0.0.1:5000"), and what was
        tried.

        No credential is an answer (`Looked.credential` None): public images need none. Raises CredentialError
        where a source is there and cannot be used: NNA1201 it cannot be read, NNA1201 others may read it or
        it is wrong (all problems at once), NNA1203 a helper failed. `deadline_s` is a helper's.
        """

    def exactly(self, server: str, *, deadline_s: float) -> Looked:
        """What docker, and so the snapshotter, finds when it looks for this name and no other.

        Raises as `find`.
        """


class RegistryTokens(Protocol):
    """What is sent to one registry as Authorization, for one credential (or none: public images need tokens
    too).
    """

    def known(self, scopes: Sequence[str]) -> Secret:
        """The header that was good for these scopes and is not about to expire; empty where there is none."""

    def answer(self, www_authenticate: str, scopes: Sequence[str], *, deadline_s: float) -> Secret:
        """The header that answers a 401 with this WWW-Authenticate: basic, or a bearer token that was fetched
        for these scopes (and what the challenge names). What was known for them before is forgotten.

        Raises CredentialError: NNA1203 the token server cannot be used or does not answer rightly, NNA1205
        it, or the registry, refuses this credential or there is none to answer with (`seen` says what was
        tried).
        """


@dataclass(frozen=True, slots=True)
class PeerTask:
    """Something that dfdaemon keeps."""

    id: str
    size: int
    """0: not known."""
    finished: bool
    """All of it is there."""
    headers: tuple[str, ...]
    """Values of the headers that the origin answered with; a registry names the blob's digest there."""


class PeerStore(Protocol):
    """What the dfdaemon of this node keeps, asked on its unix socket. Raises HttpError."""

    def tasks(self, socket: str, *, deadline_s: float) -> tuple[PeerTask, ...]:
        """Its tasks."""

    def remove(self, socket: str, task: str, *, deadline_s: float) -> None:
        """Remove one from this node (not from others); no error where it is not there."""
