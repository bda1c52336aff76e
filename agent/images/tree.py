"""What a container would see: layers put on one another, and the directories that a layer forgets to name.

Whiteouts are those of the OCI image-spec (layer.md): `.wh.NAME` hides NAME of the layers below,
`.wh..wh..opq` all that they have in its directory. Neither hides what its own layer brings, wherever in the
tar it stands.

nydus-image makes a directory that a layer has files in and does not name: root's, with 0755. Its merge takes
that for what the layer says, so a private directory would be open to all, and 2.4.4 even loses files there.
`add_layer` tells where in the tar such a directory must be named. Where a directory comes behind what is in
it, or a name comes twice, 2.2.0 loses files or mixes them up; such layers are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.errors import ConvertError
from agent.images.tar import FileNode, NodeKind, TarEntry

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_BYTES = 2 << 30
_FILE_BYTES = 700  # of memory, besides its name and its attributes
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
        cost = self._need_parents(path, entry.start) + _cost(path)
        if not name.startswith(_WHITEOUT):
            self.nodes[path] = node
            return cost + sum(len(key) + len(value) for key, value in node.xattrs.items())
        self._marks.add(path)
        if name == _OPAQUE:
            self.opaque.append(above)
        elif (hidden := name.removeprefix(_WHITEOUT)) in ("", ".", ".."):
            raise _unsound(f"/{path[:200]} hides nothing")
        else:
            self.hidden.append(_join(above, hidden))
        return cost

    def _need_parents(self, path: str, start: int) -> int:
        cost = 0
        for parent in _above(path):
            there = self.nodes.get(parent)
            if there is not None and there.kind is not NodeKind.DIRECTORY:
                raise _unsound(f"it has /{path[:200]} below what is no directory")
            if there is not None or parent in self.unnamed:
                break
            self.unnamed[parent] = start
            cost += _cost(parent)
        return cost


def normal(path: str) -> str:
    """A name in a tar as a path from the root. Raises ConvertError (NNA1403) where it leads out of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _unsound(f"{path[:200]!r} leads out of the image")
    return "/".join(parts)


def _above(path: str) -> Iterator[str]:
    """The directories that a path lies in, without the root; the deepest first."""
    while (path := path.rpartition("/")[0]) != "":
        yield path


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name


def _cost(path: str) -> int:
    return _FILE_BYTES + 4 * len(path)


def _unsound(cause: str) -> ConvertError:
    return ConvertError("NNA1403", "a layer is not sound", cause=cause)


def _refused(cause: str) -> ConvertError:
    return ConvertError("NNA1403", "a layer is not converted", cause=cause)
