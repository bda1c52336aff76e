"""A disk that loses power: which trees may be found after it, given the calls of a program and what it waited
for.

The rules are those that POSIX gives and no more, so each real file system (ext4 in any mode, xfs, btrfs)
finds only some of these trees:

- what was written to a file, its size and its owner and mode are on the disk only once it was synced (fsync,
  or fdatasync for content and size); before that each write may be there, be missing, or be there in half;
- a name in a directory (made, linked, renamed, removed) is on the disk only once that directory was synced;
  before that each change may be there or not, whatever came before and after it. A rename is there as a whole
  or not at all;
- to sync a file says nothing about its name.
"""

from __future__ import annotations

import itertools
import os
import random
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from tests.bench.survival.warden import Call

_ALL_SUBSETS_OF = 6
_SAMPLES = 24
_ROOT = 0


@dataclass
class Inode:
    """A file, a directory or a link; names are kept by the directories."""

    kind: str
    data: bytes = b""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Entry:
    """Names that change as a whole: (directory, name, inode; None: no longer there)."""

    names: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Data:
    """Bytes into a file."""

    inode: int
    at: int
    content: bytes


@dataclass(frozen=True)
class Size:
    """A file is cut or made longer."""

    inode: int
    length: int
    only_longer: bool = False


@dataclass(frozen=True)
class Meta:
    """Mode or owner."""

    inode: int
    mode: int | None = None
    owner: tuple[int, int] | None = None


@dataclass(frozen=True)
class Sync:
    """From here on it is on the disk."""

    inode: int
    data_only: bool


Op: TypeAlias = Entry | Data | Size | Meta | Sync
Names: TypeAlias = dict[tuple[int, str], int]


@dataclass
class Recording:
    """The calls of a program as operations on inodes, beginning with a tree that is on the disk."""

    inodes: dict[int, Inode] = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    """As the running system sees them."""
    start: Names = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path) -> Recording:
        """Nothing has been done yet to the tree below `root`."""
        found = cls({_ROOT: Inode("directory", mode=0o755)})
        found._load(root, _ROOT)
        found.start = dict(found.names)
        return found

    def _load(self, place: Path, directory: int) -> None:
        for entry in os.scandir(place):
            status = entry.stat(follow_symlinks=False)
            owner = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if entry.is_symlink():
                made = self._new(Inode("link", os.fsencode(os.readlink(entry.path))))
            elif entry.is_dir():
                made = self._new(Inode("directory", b"", *owner))
                self._load(Path(entry.path), made)
            else:
                made = self._new(Inode("file", Path(entry.path).read_bytes(), *owner))
            self.names[directory, entry.name] = made

    def _new(self, inode: Inode) -> int:
        number = len(self.inodes)
        self.inodes[number] = inode
        return number

    def find(self, path: str) -> int | None:
        """The inode behind a path, None: not there."""
        found: int | None = _ROOT
        for name in path.strip("/").split("/") if path.strip("/") else ():
            found = self.names.get((found, name)) if found is not None else None
        return found

    def _parent(self, path: str) -> tuple[int, str]:
        directory, _, name = path.rpartition("/")
        found = self.find(directory)
        assert found is not None, path
        return found, name

    def _do(self, op: Op) -> None:
        self.ops.append(op)
        if isinstance(op, Entry):
            _rename(self.names, op)

    def add(self, call: Call, path: str, second: str) -> None:
        """One call; the paths are those below the root. What the kernel would refuse changes nothing."""
        there = self.find(path)
        match call.name:
            case "openat":
                self._open(call, path, there)
            case "mkdir" | "mkdirat" if there is None:
                made = self._new(Inode("directory", mode=call.number & 0o755))
                self._do(Entry(((*self._parent(path), made),)))
            case "symlink" | "symlinkat" if there is None:
                made = self._new(Inode("link", os.fsencode(call.second)))
                self._do(Entry(((*self._parent(path), made),)))
            case "link" | "linkat" if there is not None and self.find(second) is None:
                self._do(Entry(((*self._parent(second), there),)))
            case "rename" | "renameat" | "renameat2" if there is not None:
                self._do(Entry(((*self._parent(path), None), (*self._parent(second), there))))
            case "unlink" | "unlinkat" | "rmdir" if there is not None and not self._full(there):
                self._do(Entry(((*self._parent(path), None),)))
            case _ if there is not None:
                self._change(call, there)

    def _full(self, inode: int) -> bool:
        return any(directory == inode for directory, _ in self.names)

    def _open(self, call: Call, path: str, there: int | None) -> None:
        if there is None and call.number & os.O_CREAT:
            self._do(Entry(((*self._parent(path), self._new(Inode("file"))),)))
        elif there is not None and call.number & os.O_TRUNC:
            self._change(replace(call, name="ftruncate", number=0), there)

    def _change(self, call: Call, inode: int) -> None:
        match call.name:
            case "write" | "pwrite64":
                at = call.position if call.position >= 0 else len(self._now(inode))
                self._do(Data(inode, at, call.data))
            case "ftruncate":
                self._do(Size(inode, call.number))
            case "fallocate":
                self._do(Size(inode, call.number, only_longer=True))
            case "chmod" | "fchmod" | "fchmodat":
                self._do(Meta(inode, mode=call.number))
            case "fchown" | "chown":
                self._do(Meta(inode, owner=(call.number, max(0, call.position))))
            case "fsync" | "fdatasync":
                self._do(Sync(inode, call.name == "fdatasync"))

    def _now(self, inode: int) -> bytes:
        return _after(
            self.inodes[inode], [op for op in self.ops if not isinstance(op, Entry) and op.inode == inode]
        ).data

    def tree(self, ops: Sequence[Op]) -> Tree:
        """What is found when these operations reached the disk, and no others."""
        names = dict(self.start)
        of: dict[int, list[Op]] = {}
        for op in ops:
            if isinstance(op, Entry):
                _rename(names, op)
            else:
                of.setdefault(op.inode, []).append(op)
        below: dict[int, list[tuple[str, int]]] = {}
        for (directory, name), inode in names.items():
            below.setdefault(directory, []).append((name, inode))
        return dict(self._reach("", _ROOT, below, of))

    def _reach(
        self, path: str, directory: int, below: dict[int, list[tuple[str, int]]], of: dict[int, list[Op]]
    ) -> Iterator[tuple[str, tuple[object, ...]]]:
        for name, number in below.get(directory, ()):
            inode = _after(self.inodes[number], of.get(number, []))
            yield f"{path}/{name}", (inode.kind, inode.data, inode.mode, inode.uid, inode.gid)
            if inode.kind == "directory":
                yield from self._reach(f"{path}/{name}", number, below, of)

    def trees(self, cut: int, chance: random.Random) -> Iterator[Tree]:
        """Every tree (where there are many: a sample) that may be found when the power goes after `cut`
        operations.
        """
        done = [op for op in self.ops[:cut] if not isinstance(op, Sync)]
        kept = [op for at, op in enumerate(self.ops[:cut]) if _synced(op, self.ops[at + 1 : cut])]
        known = {id(op) for op in kept}
        loose = [op for op in done if id(op) not in known]
        for chosen in _choices(loose, chance):
            there = known | {id(op) for op in chosen}
            halves = [op for op in chosen if isinstance(op, Data) and len(op.content) > 1]
            yield self.tree([op for op in done if id(op) in there])
            for torn in halves:
                half = replace(torn, content=torn.content[: len(torn.content) // 2])
                yield self.tree([half if op is torn else op for op in done if id(op) in there])


Tree: TypeAlias = dict[str, tuple[object, ...]]
"""path -> kind, content, mode, uid, gid."""


def _choices(loose: Sequence[Op], chance: random.Random) -> Iterator[tuple[Op, ...]]:
    """Subsets of what may or may not have reached the disk."""
    if len(loose) <= _ALL_SUBSETS_OF:
        for count in range(len(loose) + 1):
            yield from itertools.combinations(loose, count)
        return
    for number in range(len(loose) + 1):
        yield tuple(loose[:number])
    for number in range(len(loose)):
        yield (*loose[:number], *loose[number + 1 :])
        yield (loose[number],)
    for _ in range(_SAMPLES):
        yield tuple(op for op in loose if chance.random() < 0.5)


def _synced(op: Op, later: Sequence[Op]) -> bool:
    """Whether something that came later waited for it."""
    syncs = [one for one in later if isinstance(one, Sync)]
    if isinstance(op, Entry):
        return all(any(sync.inode == directory for sync in syncs) for directory, _, _ in op.names)
    if isinstance(op, Sync):
        return False
    return any(sync.inode == op.inode and not (isinstance(op, Meta) and sync.data_only) for sync in syncs)


def _rename(names: Names, op: Entry) -> None:
    for directory, name, inode in op.names:
        if inode is None:
            names.pop((directory, name), None)
        else:
            names[directory, name] = inode


def _after(inode: Inode, ops: Sequence[Op]) -> Inode:
    found = replace(inode)
    for op in ops:
        match op:
            case Data(_, at, content):
                before = found.data[:at].ljust(at, b"\0")
                found.data = before + content + found.data[at + len(content) :]
            case Size(_, length, only_longer):
                if not only_longer or length > len(found.data):
                    found.data = found.data[:length].ljust(length, b"\0")
            case Meta(_, mode, owner):
                found.mode = found.mode if mode is None else mode
                found.uid, found.gid = (found.uid, found.gid) if owner is None else owner
            case _:
                pass
    return found


def lay(tree: Tree, root: Path) -> None:
    """Make a tree of it again."""
    root.mkdir()
    for path, (kind, data, mode, uid, gid) in sorted(tree.items()):
        place = f"{root}{path}"
        assert isinstance(data, bytes)
        assert isinstance(mode, int)
        if kind == "link":
            os.symlink(os.fsdecode(data), place)
            continue
        if kind == "directory":
            os.mkdir(place)
        else:
            Path(place).write_bytes(data)
        os.chmod(place, mode)
        if (uid, gid) != (0, 0):
            assert isinstance(uid, int)
            assert isinstance(gid, int)
            os.chown(place, uid, gid)
