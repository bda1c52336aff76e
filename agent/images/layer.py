"""A layer of the source on this machine: decompressed as a stream, read once, and then handed to
nydus-image.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from agent.errors import ConvertError, ProcessError
from agent.images.manifest import Descriptor, unsound
from agent.images.tar import XATTR, FileNode, TarWalk
from agent.images.tree import FileTree, MissingDirectory
from agent.system.process import Feed

PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_UNPACKERS = {
    _GZIP: ("gzip", "--decompress", "--stdout"),
    b"\x28\xb5\x2f\xfd": ("zstd", "--decompress", "--stdout", "--memory=128MiB", "--quiet"),
}
"""By the first bytes of a layer. zstd's window is bounded, so that its memory is."""
_SILENCE_S = 60.0
_END = bytes(2 * tarfile.BLOCKSIZE)

_Pieces: TypeAlias = Generator[bytes, None, None]


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer that was read once: its digest, and that of its tar, are right."""

    path: Path
    descriptor: Descriptor
    tar: TarWalk
    """What the walk found. nydus-image reads on behind the end of a tar, and makes files of the image of what
    is there: of the index in an eStargz layer of BuildKit 0.13, or of what somebody hid. So it gets the tar
    as far as its end."""
    missing: tuple[MissingDirectory, ...]


def read_layer(
    path: Path, descriptor: Descriptor, diff_id: str, tree: FileTree, *, limit: int, content: bool
) -> LayerFile:  # fmt: skip
    """Read a layer, and put it on top of a tree; `content`: with the digests of its files.

    Raises ConvertError: NNA1403 as the tree does, or where its tar is longer than `limit` bytes; NNA1423
    where it cannot be decompressed.
    """
    walk = TarWalk(_checked(_unpacked(path), diff_id, limit), content=content)
    return LayerFile(path, descriptor, walk, tree.add_layer(walk))


def with_directories(layer: LayerFile) -> Iterator[bytes]:
    """The tar of a layer as far as its end, with the directories that it does not name before what is in
    them.
    """
    at, end, waiting = 0, layer.tar.end, list(reversed(layer.missing))
    with contextlib.closing(_unpacked(layer.path)) as pieces:
        for piece in pieces:
            part, cut = piece[: end - at], 0
            while waiting and waiting[-1].start < at + len(part):
                missing = waiting.pop()
                yield part[cut : missing.start - at] + _directory(missing.path, missing.node)
                cut = missing.start - at
            yield part[cut:]
            at += len(part)
            if at >= end:
                break
    # The padding of the last file may be missing, and the root of a layer without files is named here.
    yield bytes(end - at) + b"".join(_directory(missing.path, missing.node) for missing in waiting) + _END


def is_gzip(path: Path) -> bool:
    """Whether a layer is compressed with gzip."""
    with open(path, "rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _directory(path: str, node: FileNode) -> bytes:
    """The entry of a directory in the tar of a layer."""
    entry = tarfile.TarInfo(f"./{path}")
    entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, node.mode, node.mtime
    entry.uid, entry.gid = node.uid, node.gid
    entry.pax_headers = {
        f"{XATTR}{name}": value.decode("utf-8", "surrogateescape") for name, value in node.xattrs.items()
    }
    return entry.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _checked(pieces: _Pieces, diff_id: str, limit: int) -> _Pieces:
    hashed, left = hashlib.sha256(), limit
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            cause = f"more than the {limit} bytes that were left"
            raise ConvertError("NNA1403", "the image unpacks to too much", cause=cause)
        hashed.update(piece)
        yield piece
    if f"sha256:{hashed.hexdigest()}" != diff_id:
        cause = f"its tar is sha256:{hashed.hexdigest()}, and the configuration says {diff_id}"
        raise unsound("a layer", cause)


def _unpacked(path: Path) -> _Pieces:
    """By its first bytes, for skopeo calls the layers of a docker-archive compressed where they are not."""
    with open(path, "rb", buffering=0) as file:  # a buffer would read ahead of the program that gets it
        begin = file.read(max(map(len, _UNPACKERS)))
        file.seek(0)
        argv = next((argv for magic, argv in _UNPACKERS.items() if begin.startswith(magic)), None)
        if argv is not None:
            yield from _output(argv, file.fileno())
            return
        while piece := file.read(PIECE):
            yield piece


def _output(argv: tuple[str, ...], packed: int) -> _Pieces:
    try:
        feed = Feed(argv, packed)
    except ProcessError as error:
        what = "a layer cannot be decompressed"
        raise ConvertError("NNA1423", what, cause=error.cause, try_=f"apt install {argv[0]}") from None
    try:
        while select.select([feed], [], [], _SILENCE_S)[0]:
            piece = feed.read(PIECE)
            if piece == b"":
                break
            if piece:
                yield piece
        if feed.wait(_SILENCE_S) != 0:
            raise ConvertError("NNA1423", "a layer cannot be decompressed", cause=feed.complaint())
    finally:
        feed.end()
