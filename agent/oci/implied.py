"""Directories that a layer has files in without naming them: they keep what a layer below says of them.

nydus-image gives such a directory rights of its own (root's, 0755), and its merge takes the upper layer's word: a
private directory would be open to all, and /tmp no longer writable. Worse, 2.4.4 loses the first file of a directory
that a tar does not name, where another name of its parent's, a later one in the alphabet, came before. So the layer is
handed to it with those named, to such a version with all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from agent.oci.tree import WHITEOUT, Kind, Member, Node, Tree, normal

Named: TypeAlias = tuple[str, Node]
"""A directory's path ("" is the root) and what a layer below says of it; `implied` where none says anything."""
_PLAIN = Node(Kind.DIRECTORY, 0o755, implied=True)


class Directories:
    """What the layers so far say of their directories."""

    def __init__(self) -> None:
        self._tree = Tree()
        self.twice = ""
        """Of the layer that came last: a directory that it should have named, below one that it does name. Where the
        first is put before the layer, the second comes twice."""
        self.end = 0
        """Where in its tar the layer that came last ends."""
        self.again = ""
        """A name that the layer that came last has more than once; not the root, which every converter takes twice."""

    def missing(self, layer: Iterable[Member]) -> tuple[Named, ...]:
        """Put a layer on top; the directories that it should have named, parents first. Raises ConvertError."""
        members = tuple(layer)
        self.end = members[-1].end if members else 0
        self._tree.add_layer(members)
        implied, named, seen = set[str](), set[str](), set[str]()
        self.again = ""
        for member in members:
            path = normal(member.path)
            if member.node is not None and member.node.kind is Kind.DIRECTORY and not _is_mark(path):
                named.add(path)
            self.again = self.again or (path if path in seen else "")
            seen.add(path)
            implied.update(_above(path))
        nodes = ((path, self._tree.nodes.get(path)) for path in sorted(implied - named))
        directories = [(path, node) for path, node in nodes if node is not None and node.kind is Kind.DIRECTORY]
        said = [path for path, node in directories if not node.implied]
        below = named - {""}
        self.twice = next((path for path in said if not below.isdisjoint(_above(path))), "")
        return tuple((path, _PLAIN if node.implied else node) for path, node in directories if path or not node.implied)


def _above(path: str) -> Iterator[str]:
    """The directories that a path lies in, the root last."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _is_mark(path: str) -> bool:
    return path.rpartition("/")[2].startswith(WHITEOUT)
