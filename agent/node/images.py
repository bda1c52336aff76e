"""Images of pods that a change of the snapshotter must not leave without a root: the sandbox image, and those
whose layers were thrown away after unpacking.

Under another snapshotter an image must be unpacked anew. containerd does that by itself where it has the
layers (CRI's WithNewSnapshot, pkg/cri/opts/container.go); where `discard_unpacked_layers` took them, it fails
each container, and CRI does not pull what it knows already. Read only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import ContainerdError, ContainerdNotFoundError
from agent.facts.node import StoredImage
from agent.outside_json import json_object, json_value, mapping
from agent.ports import Containerd, ImageRecord
from agent.registry.names import HUB, host_and_rest

NAMESPACE = "k8s.io"
"""CRI's namespace in containerd."""
_CALL_S = 5.0
PINNED = ("io.cri-containerd.pinned", "pinned")
"""CRI of 1.7.3 and newer marks what its configuration pins, above all the sandbox image
(internal/cri/labels).
"""
_TOO_LONG = "NNA0608"
_NYDUS_BLOB = "containerd.io/snapshot/nydus-blob"


@dataclass(frozen=True, slots=True)
class _Store:
    """What containerd holds."""

    containerd: Containerd
    blobs: frozenset[str]
    snapshots: frozenset[str]

    def document(self, digest: str) -> Mapping[str, Any]:
        """See `document`."""
        return document(self.containerd, NAMESPACE, digest, deadline_s=_CALL_S)


class UnsoundImageError(ContainerdError):
    """A manifest, an index or a configuration in containerd's store is none (NNA0608)."""


def read_images(containerd: Containerd, snapshotter: str) -> tuple[StoredImage, ...]:
    """The images that are not simply there: sandbox images, those that lack layers and are not unpacked by
    `snapshotter`, and those that cannot be read, whose `problem` says why. Raises ContainerdError.
    """
    records = containerd.images(NAMESPACE, deadline_s=_CALL_S)
    blobs = containerd.digests(NAMESPACE, deadline_s=_CALL_S)
    store = _Store(containerd, blobs, _unpacked(containerd, snapshotter))
    sandbox = _sandbox_image(containerd)
    found = []
    for group in _by_digest(records):
        mine = [one for one in group if one.name == sandbox or one.labels.get(PINNED[0]) == PINNED[1]]
        image = _image(store, mine or group, is_sandbox=bool(mine))
        if image is not None and (mine or image.problem or not (image.complete or image.unpacked)):
            found.append(image)
    return tuple(found)


def _unpacked(containerd: Containerd, snapshotter: str) -> frozenset[str]:
    """Keys of the snapshotter's snapshots; none where containerd does not know it (yet)."""
    try:
        return frozenset(
            key for key, _ in containerd.snapshot_keys(snapshotter, NAMESPACE, deadline_s=_CALL_S)
        )
    except ContainerdError:
        return frozenset()


def _sandbox_image(containerd: Containerd) -> str:
    """What CRI of 1.x says that it starts pods with; "" on 2.x, which marks the image itself."""
    try:
        config = json_value(containerd.cri_status(deadline_s=_CALL_S).get("config", "{}"))
    except (ContainerdError, ValueError):
        return ""
    name = config.get("sandboxImage", "") if isinstance(config, dict) else ""
    return full_name(name) if isinstance(name, str) and name else ""


def full_name(name: str) -> str:
    """A reference as containerd keeps it (distribution/reference, ParseDockerRef): "pause" is
    "docker.io/library/pause:latest".
    """
    host, rest = host_and_rest(name)
    if not host:
        name = f"{HUB}/{rest}" if "/" in rest else f"{HUB}/library/{rest}"
    tagged = "@" in name or ":" in name.rpartition("/")[2]
    return name if tagged else f"{name}:latest"


def _by_digest(records: Sequence[ImageRecord]) -> tuple[tuple[ImageRecord, ...], ...]:
    """CRI keeps an image under its name, its name with a digest, and its id."""
    groups: dict[str, list[ImageRecord]] = {}
    for record in records:
        groups.setdefault(record.digest, []).append(record)
    return tuple(tuple(group) for group in groups.values())


def _image(store: _Store, group: Sequence[ImageRecord], *, is_sandbox: bool) -> StoredImage | None:
    """None where its manifest is not here."""
    digest = group[0].digest
    try:
        manifests = _manifests(store, digest)
        complete = all(_complete(store, manifest) for manifest in manifests)
        asked = is_sandbox or not complete
        unpacked = asked and all(_chain_id(store, manifest) in store.snapshots for manifest in manifests)
    except UnsoundImageError as error:
        # Whoever may pull can put any bytes there: they must keep nobody from looking at the other images.
        return StoredImage(
            _name(group), digest, complete=False, unpacked=False, sandbox=is_sandbox, problem=str(error)
        )
    if not manifests:
        return None
    return StoredImage(_name(group), digest, complete=complete, unpacked=unpacked, sandbox=is_sandbox)


def _name(group: Sequence[ImageRecord]) -> str:
    """The name that people know: with a tag, where it has one."""
    names = [record.name for record in group]
    return next((name for name in names if "@" not in name and not name.startswith("sha256:")), names[0])


def _manifests(store: _Store, digest: str) -> tuple[Mapping[str, Any], ...]:
    """The manifests behind a name that are here: of an index those of platforms that were pulled."""
    found = store.document(digest)
    if "layers" in found:
        return (found,)
    children = [str(entry.get("digest")) for entry in _entries(found, "manifests")]
    here = (store.document(child) for child in children if child in store.blobs)
    return tuple(one for one in here if "layers" in one)


def _complete(store: _Store, manifest: Mapping[str, Any]) -> bool:
    needed = (layer for layer in _entries(manifest, "layers") if not is_lazy(layer))
    return all(str(layer.get("digest")) in store.blobs for layer in needed)


def _chain_id(store: _Store, manifest: Mapping[str, Any]) -> str:
    """The key of the image's topmost snapshot; "" where it cannot be told."""
    chains = chain_ids(store.document(str(mapping(manifest.get("config")).get("digest"))))
    return chains[-1] if chains else ""


def _entries(found: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = found.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def document(containerd: Containerd, namespace: str, digest: str, *, deadline_s: float) -> Mapping[str, Any]:
    """A manifest, an index or a configuration; empty where it is not there. Raises UnsoundImageError, and
    ContainerdError where it cannot be told.
    """
    try:
        return json_object(containerd.content(namespace, digest, deadline_s=deadline_s))
    except ContainerdNotFoundError:
        return {}
    except ValueError as error:
        raise UnsoundImageError("NNA0608", f"{digest} is no image's document", cause=str(error)) from None
    except ContainerdError as error:
        if error.code != _TOO_LONG:
            raise
        raise UnsoundImageError("NNA0608", f"{digest} is no image's document", cause=error.cause) from None


def is_lazy(layer: Mapping[str, Any]) -> bool:
    """Whether it is never downloaded, but read lazily."""
    return _NYDUS_BLOB in mapping(layer.get("annotations"))


def chain_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the snapshots of an image with this configuration, from the lowest layer up (image-spec,
    config.md, "Layer ChainID").
    """
    found: list[str] = []
    diff_ids = mapping(config.get("rootfs")).get("diff_ids")
    for diff_id in diff_ids if isinstance(diff_ids, list) else ():
        pair = f"{found[-1]} {diff_id}" if found else ""
        found.append(f"sha256:{hashlib.sha256(pair.encode()).hexdigest()}" if pair else str(diff_id))
    return tuple(found)
