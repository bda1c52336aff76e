"""Reading every file of a converted image back through nydusd, against what the layers of the source say."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConvertError, NydusdError, ProcessError
from agent.images.layer import FileTree
from agent.images.tar import FileNode, NodeKind
from agent.system.nydusd import mounted
from agent.system.walk import READ

_SHOWN = 20
_KINDS = {
    stat.S_IFDIR: NodeKind.DIRECTORY, stat.S_IFLNK: NodeKind.SYMLINK, stat.S_IFCHR: NodeKind.CHARACTER,
    stat.S_IFBLK: NodeKind.BLOCK, stat.S_IFIFO: NodeKind.FIFO,
}  # fmt: skip
_INODE = (1 << 56) - 1
"""Above are bits of nydusd's own. 2.2.0 shows them where the kernel read a directory, and not where it looked
up a name (fuse-backend-rs 0.10.1, src/api/vfs), so what stat(2) says of one file changes on the way.
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """How much was compared, and did not differ."""

    files: int
    bytes: int
    differences: int = 0


def compare(expected: FileTree, nydusd: str, bootstrap: Path, blobs: Path, directory: Path) -> Compared:
    """Mount the image of this metadata, with the blobs of that directory, and compare. Raises ConvertError:
    NNA1423 it cannot be read, NNA1423 with the first differences."""
    try:
        with mounted(nydusd, bootstrap, blobs, directory) as top:
            found = read_tree(top)
    except (OSError, ProcessError, NydusdError) as error:
        cause, seen = getattr(error, "cause", "") or str(error), getattr(error, "seen", ())
        raise ConvertError(
            "NNA1423", "the converted image cannot be read back", cause=cause, seen=seen
        ) from None
    wrong = list(differences(expected, found))
    if wrong:
        more = (f"and {len(wrong) - _SHOWN} more",) if len(wrong) > _SHOWN else ()
        raise ConvertError(
            "NNA1423", "the converted image differs from its source",
            cause=f"{len(wrong)} differences in {len(expected.nodes)} files", seen=(*wrong[:_SHOWN], *more),
        )  # fmt: skip
    return Compared(len(found.nodes), sum(node.size for node in found.nodes.values()))


def differences(expected: FileTree, found: FileTree) -> Iterator[str]:
    """Everything in which the second tree differs from the first, in words."""
    for path in sorted(expected.nodes.keys() | found.nodes.keys()):
        one, other = expected.nodes.get(path), found.nodes.get(path)
        if one is None or other is None or one.kind is not other.kind:
            yield f"/{path}: found {_kind(other)}, expected {_kind(one)}"
        elif not (one.implied or other.implied):
            for what, wanted, got in _pairs(one, other):
                if wanted != got:
                    yield f"/{path}: {what}: found {got}, expected {wanted}"
    linked, as_found = _links(expected), _links(found)
    for names in sorted(linked ^ as_found, key=sorted):
        got, wanted = ("other names", "hard links") if names in linked else ("hard links", "other names")
        yield f"/{min(names)}: {', '.join(sorted(names))}: found {got}, expected {wanted}"


def _kind(node: FileNode | None) -> str:
    return "nothing" if node is None else f"a {node.kind}"


def _pairs(one: FileNode, other: FileNode) -> Iterator[tuple[str, object, object]]:
    yield "owner", (one.uid, one.gid), (other.uid, other.gid)
    if one.kind is not NodeKind.SYMLINK:  # a link has no rights of its own (symlink(7))
        yield "mode", f"{one.mode:04o}", f"{other.mode:04o}"
    if one.mtime:  # RAFS v6 has no room for a time of 0, and nydusd then shows that of the mount
        yield "time", one.mtime, other.mtime
    yield "target", one.target, other.target
    yield "device", one.device, other.device
    yield "size", one.size, other.size
    yield "content", one.content, other.content
    yield "extended attributes", dict(one.xattrs), dict(other.xattrs)


def _links(tree: FileTree) -> set[frozenset[str]]:
    """The names that each file with more than one has."""
    names = defaultdict[int, set[str]](set)
    for path, node in tree.nodes.items():
        if node.kind is not NodeKind.DIRECTORY:
            names[id(node)].add(path)
    return {frozenset(each) for each in names.values() if len(each) > 1}


def read_tree(top: str) -> FileTree:
    """Every file below a directory, as it is; no link is followed. Raises OSError."""
    tree, seen, waiting = FileTree(), dict[tuple[int, int], FileNode](), [""]
    while waiting:
        path = waiting.pop()
        place = Path(top, path)
        status = place.lstat()
        key = (status.st_dev, status.st_ino & _INODE)
        node = seen.get(key) or _node(place, status)
        if node.kind is NodeKind.DIRECTORY:
            waiting += (f"{path}/{below.name}" if path else below.name for below in place.iterdir())
        elif status.st_nlink > 1:
            seen[key] = node
        tree.add(path, node)
    return tree


def _node(place: Path, status: os.stat_result) -> FileNode:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), NodeKind.FILE)
    device = (
        (os.major(status.st_rdev), os.minor(status.st_rdev))
        if kind in (NodeKind.CHARACTER, NodeKind.BLOCK)
        else (0, 0)
    )
    size, content = (status.st_size, _hash_of(place)) if kind is NodeKind.FILE else (0, "")
    xattrs = {
        name: os.getxattr(place, name, follow_symlinks=False)
        for name in os.listxattr(place, follow_symlinks=False)
    }
    # A path would lose its slashes.
    target = os.readlink(place) if kind is NodeKind.SYMLINK else ""  # noqa: PTH115
    return FileNode(
        kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns // 10**9, size,
        content,
        target, device, xattrs,
    )  # fmt: skip


def _hash_of(place: Path) -> str:
    with os.fdopen(os.open(place, READ), "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
