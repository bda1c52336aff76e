"""What a container would see: layers put on one another, and what differs between two such trees.

Whiteouts are those of the OCI image-spec (layer.md): `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all that
they have in its directory; neither hides what its own layer brings, wherever in the tar it stands.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.errors import ConvertError

WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
TIME = "the time"


class Kind(enum.StrEnum):
    """Of a file."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Node:
    """A file with all that is compared. Two names of one node (`is`) are hard links."""

    kind: Kind
    mode: int = 0
    """The twelve lowest bits."""
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    content: str = ""
    """The digest of its content, in any form that both sides use."""
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    implied: bool = False
    """A directory that no layer names, only files below it: its rights are nobody's to say."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a layer's tar: a node, or the name of one that stands earlier (a hard link)."""

    path: str
    node: Node | None
    hard_link: str = ""
    end: int = 0
    """Where in the tar it ends."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a tree differs from what is expected."""

    path: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"/{self.path}: {self.what} is {self.found}, not {self.expected}"


class Tree:
    """Path (without the first slash; "" is the root) to node."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"": Node(Kind.DIRECTORY, implied=True)}
        self._below: dict[str, set[str]] = defaultdict(set)

    def add_layer(self, members: Iterable[Member]) -> None:
        """Put a layer on top. Raises ConvertError (NNA1406) where it is not one that can be."""
        layer = _Layer()
        for member in members:
            layer.take(member)
        for path in layer.opaque:
            for child in tuple(self._below.get(path, ())):
                self._remove(_join(path, child))
        for path in layer.hidden:
            self._remove(path)
        for path, node in layer.resolved(self.nodes):
            self.add(path, node)

    def add(self, path: str, node: Node) -> None:
        """Put one file into the tree, in the place of what is there."""
        before = self.nodes.get(path)
        if before is not None and before.kind is Kind.DIRECTORY:
            if node.kind is not Kind.DIRECTORY:
                self._remove(path)
            elif node.implied:
                return
        self._need_parent(path)
        self.nodes[path] = node
        if path:
            above, _, name = path.rpartition("/")
            self._below[above].add(name)

    def _need_parent(self, path: str) -> None:
        """A layer may be as deep as it likes, so this goes up by no call of itself; the root always is a directory."""
        above = path.rpartition("/")[0]
        while (there := self.nodes.get(above)) is None or there.kind is not Kind.DIRECTORY:
            self.nodes[above] = Node(Kind.DIRECTORY, implied=True)
            above, _, name = above.rpartition("/")
            self._below[above].add(name)

    def _remove(self, path: str) -> None:
        waiting = [path]
        above, _, name = path.rpartition("/")
        if path:
            self._below[above].discard(name)
        while waiting:
            one = waiting.pop()
            waiting += [_join(one, child) for child in self._below.pop(one, ())]
            if one:
                self.nodes.pop(one, None)


class _Layer:
    def __init__(self) -> None:
        self.hidden: list[str] = []
        self.opaque: list[str] = []
        self._members: dict[str, Member] = {}

    def take(self, member: Member) -> None:
        path = normal(member.path)
        if not path and (member.node is None or member.node.kind is not Kind.DIRECTORY):
            raise ConvertError("NNA1406", "a layer is not sound", cause="its root is no directory")
        above, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self.opaque.append(above)
        elif name.startswith(WHITEOUT):
            self.hidden.append(_join(above, name.removeprefix(WHITEOUT)))
        else:
            self._members.pop(path, None)  # the later one counts, at its own place
            self._members[path] = member

    def resolved(self, lower: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
        for path, member in self._members.items():
            yield path, member.node if member.node is not None else self._linked(member, lower)

    def _linked(self, member: Member, lower: Mapping[str, Node]) -> Node:
        seen, at = {member.path}, member
        while at.node is None:
            target = normal(at.hard_link)
            below = self._members.get(target)
            if below is None and target in lower:
                return lower[target]
            if below is None or below.path in seen:
                raise ConvertError(
                    "NNA1406", "a layer is not sound", cause=f"the hard link {member.path!r} leads to nothing"
                )
            seen.add(below.path)
            at = below
        return at.node


def normal(path: str) -> str:
    """A name in a tar as a path from the root. Raises ConvertError (NNA1406) where it leads out of it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ConvertError("NNA1406", "a layer is not sound", cause=f"{path!r} leads out of the image")
    return "/".join(parts)


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name


def differences(expected: Tree, found: Tree) -> Iterator[Difference]:
    """Everything in which the second tree differs from the first."""
    for path in sorted(expected.nodes.keys() | found.nodes.keys()):
        one, other = expected.nodes.get(path), found.nodes.get(path)
        if one is None or other is None:
            yield Difference(path, "the file", _there(one), _there(other))
        elif one is not other:
            yield from _of_nodes(path, one, other)
    yield from _of_links(expected, found)


def _there(node: Node | None) -> str:
    return "not there" if node is None else f"a {node.kind}"


def _of_nodes(path: str, one: Node, other: Node) -> Iterator[Difference]:
    if one.kind is not other.kind:
        yield Difference(path, "the kind", one.kind, other.kind)
        return
    if one.implied or other.implied:
        return
    pairs: list[tuple[str, object, object]] = [
        ("the owner", f"{one.uid}:{one.gid}", f"{other.uid}:{other.gid}"),
        (TIME, *_times(one, other)),
        ("the target", one.target, other.target),
        ("the device", one.device, other.device),
        ("the size", one.size, other.size),
        ("the content", one.content, other.content),
        ("the set of extended attributes", _shown(one.xattrs), _shown(other.xattrs)),
    ]
    if one.kind is not Kind.SYMLINK:  # a link has no rights of its own (symlink(7))
        pairs.append(("the mode", f"{one.mode:04o}", f"{other.mode:04o}"))
    for what, wanted, got in pairs:
        if wanted != got:
            yield Difference(path, what, str(wanted), str(got))


def _times(one: Node, other: Node) -> tuple[int, int]:
    """RAFS v6 has no room for the time in an inode whose time is 0, and nydusd then shows that of the mount."""
    return (one.mtime, other.mtime) if one.mtime else (0, 0)


def _shown(xattrs: Mapping[str, bytes]) -> str:
    return ", ".join(f"{name}={value.hex()}" for name, value in sorted(xattrs.items())) or "empty"


def _of_links(expected: Tree, found: Tree) -> Iterator[Difference]:
    wanted, got = _links(expected), _links(found)
    for names in sorted(wanted ^ got, key=sorted):
        first = min(names)
        told = f"hard links: {', '.join(sorted(names))}"
        known = (told, "other") if names in wanted else ("other", told)
        yield Difference(first, "the set of names", *known)


def _links(tree: Tree) -> set[frozenset[str]]:
    """The names that each file with more than one has."""
    names = defaultdict[int, set[str]](set)
    for path, node in tree.nodes.items():
        if node.kind is not Kind.DIRECTORY:
            names[id(node)].add(path)
    return {frozenset(each) for each in names.values() if len(each) > 1}
