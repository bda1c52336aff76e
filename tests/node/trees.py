"""Images that make a conversion sweat, as OCI layouts, and how their layers are made."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.images.manifest import TAR_GZIP, digest_of
from agent.registry.names import OCI_INDEX
from tests.node import images, layout
from tests.node.boot import Node

_TIME = 1_700_000_000
# Cap_net_bind_service (linux/capability.h, revision 2).
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
XATTR = "SCHILY.xattr."

Fill = Callable[[tarfile.TarFile], None]


def add(tar: tarfile.TarFile, name: str, content: bytes | None = None, **fields: Any) -> None:
    """One entry; of what is not said, a file that root alone may read."""
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode = _TIME, 0o600
    for field, value in fields.items():
        setattr(entry, field, value)
    entry.size = len(content or b"")
    tar.addfile(entry, io.BytesIO(content) if content is not None else None)


def directory(tar: tarfile.TarFile, name: str, mode: int = 0o755, **fields: Any) -> None:
    add(tar, name, type=tarfile.DIRTYPE, mode=mode, **fields)


def many_files(count: int) -> Fill:
    """A tree of small files, 100 to a directory, from 0 to 4 KiB each."""

    def fill(tar: tarfile.TarFile) -> None:
        for at in range(count):
            if at % 100 == 0:
                directory(tar, f"tree/{at // 100}")
            content = hashlib.sha256(str(at).encode()).digest() * (at % 129)
            add(tar, f"tree/{at // 100}/{at}", content, mode=0o644, uid=at % 7, gid=at % 5)

    return fill


def below(tar: tarfile.TarFile) -> None:
    """Everything that an image can hold, and what the layer above changes."""
    directory(tar, "odd", 0o1777, uid=3)
    add(tar, "odd/file", b"hello" * 1000, mode=0o644, uid=5, gid=6)
    add(tar, "odd/link", type=tarfile.LNKTYPE, linkname="odd/file", mode=0o644, uid=5, gid=6)
    add(tar, "odd/soft", type=tarfile.SYMTYPE, linkname="../odd/file", mode=0o777)
    add(tar, "odd/soft-long", type=tarfile.SYMTYPE, linkname="x/" * 150, mode=0o777)
    capability = {XATTR + "security.capability": CAPABILITY.decode(), XATTR + "user.colour": "green"}
    add(tar, "odd/xattrs", b"x", mode=0o4755, pax_headers=capability)
    add(tar, "odd/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(tar, "odd/disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660)
    add(tar, "odd/empty", b"")
    add(tar, "odd/large", bytes(range(256)) * 20_000)
    add(tar, "odd/" + "n" * 120 + "/" + "ä" * 80, b"long")
    # The kernel asks nydusd for the first names of a directory at once, for the last of so many one by one.
    directory(tar, "wide")
    for at in range(1000):
        add(tar, f"wide/{at:03}", b"")
    add(tar, "yet/first", b"linked")
    add(tar, "wide/last", type=tarfile.LNKTYPE, linkname="yet/first")
    directory(tar, "opaque", 0o700)
    add(tar, "opaque/gone", b"gone")
    directory(tar, "opaque/sub")
    add(tar, "opaque/sub/gone", b"gone")
    add(tar, "deleted", b"deleted")
    directory(tar, "private", 0o700, uid=7, gid=8, pax_headers={XATTR + "user.kept": "yes"})
    add(tar, "private/old", b"old")
    directory(tar, "turned")
    add(tar, "turned/inside", b"inside")


def above(tar: tarfile.TarFile) -> None:
    add(tar, ".wh.deleted", b"")
    add(tar, "private/new", b"in a directory that this layer does not name")
    add(tar, "private/.wh.old", b"")
    add(tar, "usr/share/new", b"new", mode=0o644)
    directory(tar, "opaque", 0o711)
    add(tar, "opaque/.wh..wh..opq", b"")
    add(tar, "opaque/new", b"new")
    add(tar, "turned", b"a file now", mode=0o644)
    directory(tar, "odd", 0o755)
    add(tar, "odd/again", b"hello" * 1000)


def only_whiteouts(tar: tarfile.TarFile) -> None:
    """The uppermost layer has neither data nor extended attributes."""
    directory(tar, "odd", 0o755)
    add(tar, "odd/.wh.soft", b"")


def plain_addition(tar: tarfile.TarFile) -> None:
    """What nobody objects to."""
    directory(tar, "usr")
    directory(tar, "usr/share")
    add(tar, "usr/share/new", b"in an upper layer", mode=0o644)


LAYERS: tuple[Fill, ...] = (below, above, only_whiteouts)


def add_image(
    target: layout.Layout, name: str, fills: Sequence[Fill], *, base: str = "", command: Sequence[str] = ()
) -> None:
    """An image of these layers, on top of those of an image of `images` where one is named."""
    layers, diff_ids = list[layout.Descriptor](), list[str]()
    if base:
        packed = images.layout_of(base) / "blobs" / "sha256" / images.image(base).blob.removeprefix("sha256:")
        layers.append(target.add_file(packed, TAR_GZIP))
        diff_ids.append(digest_of(gzip.decompress(packed.read_bytes())))
    for fill in fills:
        tar = tar_of(fill)
        diff_ids.append(digest_of(tar))
        layers.append(target.add_bytes(gzip.compress(tar, 6, mtime=0), TAR_GZIP))
    target.add_image(name, layers, diff_ids, list(command))


def tar_of(fill: Fill) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return out.getvalue()


def add_platforms(directory: Path, name: str, fills: Sequence[Fill], architectures: Sequence[str]) -> None:
    """An index over images that differ in their architecture alone, in a layout of its own."""
    made = layout.Layout(directory)
    for architecture in architectures:
        add_image(made, architecture, fills)
    index = json.loads((directory / "index.json").read_text())
    entries = []
    for entry, architecture in zip(index["manifests"], architectures, strict=True):
        entries.append(_for(made, entry, architecture))
    whole = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    only = made.add_bytes(json.dumps(whole).encode(), OCI_INDEX)
    only["annotations"] = {"org.opencontainers.image.ref.name": name}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [only]}))


def _for(made: layout.Layout, entry: layout.Descriptor, architecture: str) -> layout.Descriptor:
    """The image's manifest, with a configuration for another architecture."""
    manifest = json.loads(_blob(made, entry))
    config = {**json.loads(_blob(made, manifest["config"])), "architecture": architecture}
    manifest["config"] = made.add_bytes(json.dumps(config).encode(), manifest["config"]["mediaType"])
    changed = made.add_bytes(json.dumps(manifest).encode(), entry["mediaType"])
    return {**changed, "platform": {"os": "linux", "architecture": architecture}}


def _blob(made: layout.Layout, descriptor: layout.Descriptor) -> bytes:
    digest: str = descriptor["digest"]
    return (made.blobs / digest.removeprefix("sha256:")).read_bytes()


def push(node: Node, directory: Path, name: str, ref: str) -> str:
    """An image of a layout into a registry on the node. Returns `ref`."""
    return images.push_image(node, directory, images.read_image(directory, name), ref)
