"""The ports of containerd and of the snapshotter's own socket. Part of `agent.ports`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.node.facts import PluginFact, RunningContainerd
from agent.registry.credential import Credential


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
