"""A layer of the source on this machine: decompressed as a stream, read once, and then handed to
nydus-image. And the tree of files that the layers come to.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import sys
import tarfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from agent.errors import ConvertError, ProcessError
from agent.images.manifest import Descriptor, unsound
from agent.images.tar import XATTR, FileNode, NodeKind, TarEntry, TarWalk
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


_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_BYTES = 2 << 30
_FILE_BYTES, _TEXT_BYTES = 400, 100  # of memory: a file without its texts, and the place of a text
_PLAIN = FileNode(NodeKind.DIRECTORY, 0o755, implied=True)


class MissingDirectory(NamedTuple):
    """A directory that a layer should name."""

    start: int
    """Where in its tar."""
    path: str
    node: FileNode
    """What the layers below say of it; where none says anything, what nydus-image would make."""


class FileTree:
    """Path (without the first slash; "" is the root) to node. Its layers may take so many bytes of memory."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.nodes: dict[str, FileNode] = {"": FileNode(NodeKind.DIRECTORY, implied=True)}
        self._below: dict[str, set[str]] = defaultdict(set)
        self._left = most_bytes

    def add_layer(self, entries: Iterable[TarEntry]) -> tuple[MissingDirectory, ...]:
        """Put a layer on top: the directories that it should have named, in the order of its tar. Raises
        ConvertError: NNA1403 it is not sound, NNA1403 nydus-image would mix it up, or it fills the memory."""
        layer = _Layer()
        for entry in entries:
            self._left -= layer.take(entry)
            if self._left < 0:
                raise _refused("the image has too many files, or too long names")
        for path in layer.opaque:
            for child in tuple(self._below.get(path, ())):
                self._remove(_join(path, child))
        for path in layer.hidden:
            self._remove(path)
        for path, node in layer.nodes.items():
            self.add(path, node)
        for path in layer.unnamed:  # some have whiteouts alone
            self._need_directory(path)
        if "" not in layer.nodes and not self.nodes[""].implied:
            layer.unnamed[""] = 0
        missing = sorted((start, path) for path, start in layer.unnamed.items())
        nodes = ((start, path, self.nodes[path]) for start, path in missing)
        return tuple(
            MissingDirectory(start, path, _PLAIN if node.implied else node) for start, path, node in nodes
        )

    def add(self, path: str, node: FileNode) -> None:
        """Put one file into the tree, in the place of what is there."""
        if node.kind is not NodeKind.DIRECTORY:
            self._remove(path)
        self.nodes[path] = node
        if path:
            above, _, name = path.rpartition("/")
            self._below[above].add(name)
            self._need_directory(above)

    def _need_directory(self, path: str) -> None:
        """Have a directory there, and above. A layer may be deeper than Python calls go."""
        while (there := self.nodes.get(path)) is None or there.kind is not NodeKind.DIRECTORY:
            self.nodes[path] = FileNode(NodeKind.DIRECTORY, implied=True)
            path, _, name = path.rpartition("/")
            self._below[path].add(name)

    def _remove(self, path: str) -> None:
        waiting = [path]
        above, _, name = path.rpartition("/")
        self._below[above].discard(name)
        while waiting:
            one = waiting.pop()
            waiting += [_join(one, child) for child in self._below.pop(one, ())]
            self.nodes.pop(one, None)


class _Layer:
    """One layer, entry by entry."""

    def __init__(self) -> None:
        self.nodes: dict[str, FileNode] = {}
        self.hidden: list[str] = []
        self.opaque: list[str] = []
        self.unnamed: dict[str, int] = {}
        """Directories that it has files in and does not name, and where in its tar the first of these files
        is.
        """
        self._marks: set[str] = set()

    def take(self, entry: TarEntry) -> int:
        """Take the next one; bytes of memory for it."""
        path = normal(entry.name)
        above, _, name = path.rpartition("/")
        node = self.nodes.get(normal(entry.hard_link)) if entry.node is None else entry.node
        if node is None:
            raise _refused(f"the hard link /{path[:200]} leads to nothing that comes before it in its layer")
        if not path and node.kind is not NodeKind.DIRECTORY:
            raise _unsound("its root is no directory")
        if path and (path in self.nodes or path in self._marks):
            raise _refused(f"it has /{path[:200]} twice")
        if path in self.unnamed:
            raise _refused(f"it names /{path[:200]} behind what is in it")
        cost = self._need_parents(path, entry.start) + _cost(path, entry.node or _PLAIN)
        if not name.startswith(_WHITEOUT):
            self.nodes[path] = node
            return cost
        self._marks.add(path)
        if name == _OPAQUE:
            self.opaque.append(above)
        elif (hidden := name.removeprefix(_WHITEOUT)) in ("", ".", ".."):
            raise _unsound(f"/{path[:200]} hides nothing")
        else:
            self.hidden.append(_join(above, hidden))
        return cost

    def _need_parents(self, path: str, start: int) -> int:
        cost, parent = 0, path
        while parent := parent.rpartition("/")[0]:
            there = self.nodes.get(parent)
            if there is not None and there.kind is not NodeKind.DIRECTORY:
                raise _unsound(f"it has /{path[:200]} below what is no directory")
            if there is not None or parent in self.unnamed:
                break
            self.unnamed[parent] = start
            cost += _cost(parent, _PLAIN)
        return cost


def normal(path: str) -> str:
    """A name in a tar as a path from the root. Raises ConvertError (NNA1403) where it leads out of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _unsound(f"{path[:200]!r} leads out of the image")
    return "/".join(parts)


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name


def _cost(path: str, node: FileNode) -> int:
    texts = (node.target, *node.xattrs, *node.xattrs.values())
    return _FILE_BYTES + 4 * sys.getsizeof(path) + sum(_TEXT_BYTES + sys.getsizeof(text) for text in texts)


def _unsound(cause: str) -> ConvertError:
    return ConvertError("NNA1403", "a layer is not sound", cause=cause)


def _refused(cause: str) -> ConvertError:
    return ConvertError("NNA1403", "a layer is not converted", cause=cause)
