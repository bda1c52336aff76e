"""A containerd of dictionaries, and the snapshotter's own socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from agent.errors import (
    ContainerdError,
    ContainerdInvalidError,
    ContainerdNotFoundError,
    ContainerdUnavailableError,
)
from agent.facts.node import PluginFact, RunningContainerd
from agent.node.images import chain_ids
from agent.ports import Credential, ImageFsInfo, ImageRecord
from tests.fakes.faults import Faults

SNAPSHOTTER = "io.containerd.snapshotter.v1"
CRI = "io.containerd.grpc.v1"

_LAZY = {"containerd.io/snapshot/nydus-blob": "true"}

STOCK_PLUGINS = (
    PluginFact(
        SNAPSHOTTER, "overlayfs", (("root", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"),)
    ),
    PluginFact(CRI, "cri"),
    PluginFact(CRI, "introspection"),
)


def digest_of(blob: bytes) -> str:
    """As containerd names a blob."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def nydus_plugin(address: str, root: str) -> PluginFact:
    """The entry of a proxy snapshotter named nydus, as introspection shows it."""
    return PluginFact(SNAPSHOTTER, "nydus", (("address", address), ("root", root)))


class FakeContainerd:
    """A daemon that can be down, restarted, and lack plugins. Faults count `prepare_and_remove`.

    As the real one, it says that a proxy plugin is fine whoever answers on its socket; only Prepare asks
    `backend_alive`.
    """

    def __init__(
        self, plugins: tuple[PluginFact, ...] = STOCK_PLUGINS, *, faults: Faults | None = None
    ) -> None:
        self.faults = faults if faults is not None else Faults()
        self.up = True
        self.version_text = "1.7.24"
        self.pid = 500
        self.plugin_facts = plugins
        self.mountpoints: tuple[str, ...] = ("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs",)
        self.status: dict[str, str] = {"RuntimeReady": "true", "NetworkReady": "true", "config": "{}"}
        self.namespace_images: dict[str, list[ImageRecord]] = {"default": []}
        self.blobs: dict[tuple[str, str], bytes] = {}
        """(namespace, digest) -> content."""
        self.registry: set[str] = set()
        """Names of images that can be pulled."""
        self.pulled: list[tuple[str, str]] = []
        """(name, runtime handler) of each pull, oldest first."""
        self.asked_as: Credential | None = None
        """Who the last pull was for."""
        self.snapshots: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
        """(snapshotter, namespace) -> key -> labels."""
        self.unpacked_by: dict[tuple[str, str], set[str]] = {}
        """(snapshotter, namespace) -> digests of the configurations of images that it has unpacked."""
        self.parents: dict[str, str] = {}
        """Of snapshots, by key."""
        self.backend_alive: Callable[[str], bool] = lambda _snapshotter: True

    def restart(self, plugins: tuple[PluginFact, ...] | None = None) -> None:
        """A new process, with these plugins where given."""
        self.up = True
        self.pid += 1
        self.plugin_facts = self.plugin_facts if plugins is None else plugins

    def set_init_err(self, plugin_id: str, text: str) -> None:
        """A plugin that failed to start."""
        self.plugin_facts = tuple(
            replace(fact, init_err=text) if fact.id == plugin_id else fact for fact in self.plugin_facts
        )

    def put_image(
        self,
        name: str,
        *,
        layers: Sequence[bytes] = (b"layer",),
        discarded: bool = False,
        pinned: bool = False,
        lazy: Sequence[bytes] = (),
        namespace: str = "k8s.io",
    ) -> ImageRecord:
        """An image in CRI's namespace (or another), with its layers or, where they were discarded, without.
        `lazy` are layers of nydus that nobody downloads.
        """
        put = partial(self._put_blob, namespace)
        every = (*lazy, *layers)
        config = put(
            {"rootfs": {"type": "layers", "diff_ids": [digest_of(b"diff of " + layer) for layer in every]}}
        )
        entries = [
            {"digest": digest_of(layer), "size": len(layer), "annotations": _LAZY if layer in lazy else {}}
            for layer in every
        ]
        described = {"digest": config, "size": len(self.blobs[namespace, config])}
        digest = put({"schemaVersion": 2, "config": described, "layers": entries})
        if not discarded:
            self.blobs.update({(namespace, digest_of(layer)): layer for layer in layers})
        labels = {
            "io.cri-containerd.image": "managed",
            **({"io.cri-containerd.pinned": "pinned"} if pinned else {}),
        }
        record = ImageRecord(name, digest, "application/vnd.oci.image.manifest.v1+json", labels)
        self.namespace_images.setdefault(namespace, []).append(record)
        return record

    def unpack(self, record: ImageRecord, snapshotter: str, namespace: str = "k8s.io") -> None:
        """The snapshots of an image of `put_image`, as `ctr snapshots unpack` leaves them."""
        manifest = json.loads(self.blobs[namespace, record.digest])
        config = json.loads(self.blobs[namespace, manifest["config"]["digest"]])
        chain = ""
        for diff_id in config["rootfs"]["diff_ids"]:
            below, chain = chain, digest_of(f"{chain} {diff_id}".encode()) if chain else diff_id
            self.snapshots.setdefault((snapshotter, namespace), {})[chain] = {}
            self.parents[chain] = below

    def put_container(self, name: str, record: ImageRecord, snapshotter: str) -> None:
        """A container of CRI's from an image that is unpacked."""
        manifest = json.loads(self.blobs["k8s.io", record.digest])
        chains = chain_ids(json.loads(self.blobs["k8s.io", manifest["config"]["digest"]]))
        self.snapshots[snapshotter, "k8s.io"][name] = {}
        self.parents[name] = chains[-1]

    def _put_blob(self, namespace: str, document: object) -> str:
        blob = json.dumps(document).encode()
        self.blobs[namespace, digest_of(blob)] = blob
        return digest_of(blob)

    def server(self, *, deadline_s: float) -> RunningContainerd:
        self._need_up("Server")
        version = tuple(int(part) for part in self.version_text.split("."))
        return RunningContainerd(version, self.version_text, self.pid, self.plugin_facts)

    def plugins(self, *, deadline_s: float) -> tuple[PluginFact, ...]:
        self._need_up("Plugins")
        return self.plugin_facts

    def image_fs_info(self, *, deadline_s: float) -> ImageFsInfo:
        self._need_cri("ImageFsInfo")
        return ImageFsInfo(self.mountpoints)

    def cri_status(self, *, deadline_s: float) -> Mapping[str, str]:
        self._need_cri("Status")
        return dict(self.status)

    def prepare_and_remove(self, snapshotter: str, namespace: str, key: str, *, deadline_s: float) -> None:
        with self.faults.around("prepare_and_remove", snapshotter, namespace, key):
            self._need_up("Prepare")
            self._need_snapshotter(snapshotter)
            if not self.backend_alive(snapshotter):
                raise ContainerdUnavailableError(
                    "NNA0602", "containerd: Prepare failed", cause="dial unix: no such file"
                )

    def snapshot_keys(
        self, snapshotter: str, namespace: str, *, deadline_s: float
    ) -> tuple[tuple[str, Mapping[str, str]], ...]:
        self._need_up("List")
        self._need_snapshotter(snapshotter)
        return tuple(
            sorted(self.snapshots.get((snapshotter, namespace), {}).items(), key=lambda pair: pair[0])
        )

    def snapshot_parents(self, snapshotter: str, namespace: str, *, deadline_s: float) -> Mapping[str, str]:
        found = self.snapshot_keys(snapshotter, namespace, deadline_s=deadline_s)
        return {key: self.parents.get(key, "") for key, _ in found}

    def namespaces(self, *, deadline_s: float) -> tuple[str, ...]:
        self._need_up("List")
        return tuple(sorted(self.namespace_images))

    def images(self, namespace: str, *, deadline_s: float) -> tuple[ImageRecord, ...]:
        self._need_up("List")
        return tuple(sorted(self.namespace_images.get(namespace, ()), key=lambda image: image.name))

    def unpacked(self, snapshotter: str, namespace: str, *, deadline_s: float) -> frozenset[str]:
        self._need_up("List")
        return frozenset(self.unpacked_by.get((snapshotter, namespace), ()))

    def digests(self, namespace: str, *, deadline_s: float) -> frozenset[str]:
        self._need_up("List")
        return frozenset(digest for place, digest in self.blobs if place == namespace)

    def pull(
        self, name: str, runtime: str, *, credential: Credential | None = None, deadline_s: float
    ) -> None:
        self.asked_as = credential
        with self.faults.around("pull", name, runtime):
            self._need_cri("PullImage")
            if name not in self.registry:
                raise ContainerdError(
                    "NNA0601", "containerd: PullImage failed", cause=f"failed to resolve {name}"
                )
            self.pulled.append((name, runtime))

    def content(self, namespace: str, digest: str, *, deadline_s: float, cap: int = 4 << 20) -> bytes:
        self._need_up("Read")
        blob = self.blobs.get((namespace, digest))
        if blob is None:
            raise ContainerdNotFoundError(
                "NNA0601", "containerd: Read failed", cause=f"content {digest}: not found"
            )
        if len(blob) > cap:
            raise ContainerdError("NNA0608", f"{digest} is too long", cause=f"over {cap} bytes")
        return blob

    def _need_up(self, method: str) -> None:
        if not self.up:
            raise ContainerdUnavailableError(
                "NNA0602", f"containerd: {method} failed", cause="connection refused"
            )

    def _need_cri(self, method: str) -> None:
        self._need_up(method)
        if not any(fact.id == "cri" and not fact.init_err for fact in self.plugin_facts):
            raise ContainerdError(
                "NNA0607", f"containerd: {method} failed", cause="unknown service runtime.v1"
            )

    def _need_snapshotter(self, name: str) -> None:
        if not any(fact.type == SNAPSHOTTER and fact.id == name for fact in self.plugin_facts):
            raise ContainerdInvalidError(
                "NNA0601", "containerd: Prepare failed", cause=f"snapshotter not loaded: {name}"
            )


class FakeSnapshotterSocket:
    """The snapshotters that answer, by socket address."""

    def __init__(self, *addresses: str) -> None:
        self.answering: set[str] = set(addresses)
        self.pid = 0
        """Of the process that listens."""

    def holder(self, address: str, *, deadline_s: float) -> int:
        self.alive(address, deadline_s=deadline_s)
        return self.pid

    def alive(self, address: str, *, deadline_s: float) -> None:
        if address not in self.answering:
            raise ContainerdUnavailableError(
                "NNA0602", f"nobody answers on {address}", cause="connection refused"
            )
