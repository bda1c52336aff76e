"""What a nydus image is in a registry, as nydus-snapshotter takes it (dragonflyoss/nydus, docs/nydus-image.md).

The layers are the RAFS blobs as they are, whose diff ids are their own digests, and last the bootstrap: a tar with
image/image.boot. A layer that brings no data (only directories, links, whiteouts) has no blob.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.oci import formats
from agent.oci.formats import Descriptor, Json, Platform

BOOTSTRAP = "image/image.boot"
IS_BLOB = "containerd.io/snapshot/nydus-blob"
IS_BOOTSTRAP = "containerd.io/snapshot/nydus-bootstrap"
FS_VERSION = "containerd.io/snapshot/nydus-fs-version"
_BLOB = {IS_BLOB: "true"}
_BOOTSTRAP = {IS_BOOTSTRAP: "true", FS_VERSION: "6"}
# dragonflyoss/nydus, rafs/src/metadata/layout/v6.rs and mod.rs: the extended superblock is behind EROFS' own.
_EROFS_AT, _EROFS = 1024, b"\xe2\xe1\xf5\xe0"  # linux/fs/erofs/erofs_fs.h, EROFS_SUPER_OFFSET, EROFS_SUPER_MAGIC_V1
FLAGS_AT = _EROFS_AT + 128
"""Where a bootstrap's flags are."""
SOURCE_DIGEST = "containerd.io/snapshot/nydus-source-digest"
"""On the manifest: what it was converted from (as nydusify notes it)."""

BY = "nydus-agent convert"


def is_rafs_v6(head: bytes) -> bool:
    """Whether a file that begins so is a bootstrap of RAFS v6, as far as that is known here."""
    return head[_EROFS_AT : _EROFS_AT + len(_EROFS)] == _EROFS


@dataclass(frozen=True, slots=True)
class Blob:
    """A RAFS blob, or a packed bootstrap."""

    digest: str
    size: int
    diff_id: str = ""
    """Of its tar; of a RAFS blob it is the digest."""


@dataclass(frozen=True, slots=True)
class Made:
    """What is pushed of one image besides its blobs."""

    config: bytes
    manifest: bytes
    platform: Platform

    def descriptor(self) -> Descriptor:
        """Of the manifest."""
        return Descriptor(formats.OCI_MANIFEST, formats.digest_of(self.manifest), len(self.manifest), self.platform)


def image(
    source: Json,
    platform: Platform,
    blobs: Sequence[Blob | None],
    bootstrap: Blob,
    annotations: Mapping[str, str],
    referenced: Sequence[Blob | None] = (),
) -> Made:
    """The nydus image of an image with this configuration. `blobs` has one for each layer, None where it has none.

    `referenced` are layers of the source that the data stays in. They stand in the manifest so that a registry keeps
    them, and as blobs, so that nobody fetches them whole: only nydusd reads them.
    """
    used, kept = _unique(blobs), _unique(referenced)
    config = formats.encoded(_config(source, blobs, [*used, *kept], bootstrap, len(kept)))
    layers: list[dict[str, object]] = [
        {"mediaType": formats.NYDUS_BLOB, "digest": blob.digest, "size": blob.size, "annotations": _BLOB}
        for blob in (*used, *kept)
    ]
    layers.append(
        {
            "mediaType": formats.TAR_GZIP, "digest": bootstrap.digest, "size": bootstrap.size,
            "annotations": _BOOTSTRAP,
        }
    )  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": formats.OCI_MANIFEST,
        "config": Descriptor(formats.OCI_CONFIG, formats.digest_of(config), len(config)).plain(),
        "layers": layers,
        "annotations": dict(annotations),
    }
    return Made(config, formats.encoded(manifest), platform)


def index(made: Sequence[Made]) -> bytes:
    """The index over images for several platforms."""
    body = {
        "schemaVersion": 2,
        "mediaType": formats.OCI_INDEX,
        "manifests": [one.descriptor().plain() for one in made],
    }
    return formats.encoded(body)


def _unique(blobs: Sequence[Blob | None]) -> list[Blob]:
    """Two layers may have made one blob."""
    return list({blob.digest: blob for blob in blobs if blob is not None}.values())


def _config(
    source: Json, blobs: Sequence[Blob | None], used: Sequence[Blob], bootstrap: Blob, kept: int
) -> dict[str, object]:
    """The source's, with our layers in the place of its own."""
    config = dict(source)
    config["rootfs"] = {"type": "layers", "diff_ids": [*(blob.digest for blob in used), bootstrap.diff_id]}
    history = _history(source.get("history"), blobs, kept)
    config.pop("history", None)
    if history:
        config["history"] = history
    return config


def _history(found: object, blobs: Sequence[Blob | None], kept: int) -> list[dict[str, object]]:
    """The source's, where it fits its layers: one entry that is not empty for each layer of ours."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return []
    entries = [dict(one) for one in found]
    filled = [one for one in entries if not one.get("empty_layer")]
    if len(filled) != len(blobs):
        return []
    seen = set[str]()
    for entry, blob in zip(filled, blobs, strict=True):
        if blob is None or blob.digest in seen:
            entry["empty_layer"] = True
        else:
            seen.add(blob.digest)
    layers: list[dict[str, object]] = [{"created_by": BY, "comment": "layer of the source"} for _ in range(kept)]
    return [*entries, *layers, {"created_by": BY, "comment": "nydus bootstrap"}]
