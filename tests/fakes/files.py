"""A file system of dictionaries."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.errors import FileChangedError, FileError
from agent.facts.node import FileFact
from tests.fakes.faults import Faults


@dataclass(frozen=True)
class FakeFile:
    """A regular file; `inode` is new after each write, so a test can see that nothing was written."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    inode: int = 0


class FakeFiles:
    """Files, links and directories by absolute path.

    Faults count `replace`, `remove` and the other removals.
    """

    def __init__(self, contents: dict[str, bytes] | None = None, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.files: dict[str, FakeFile] = {}
        self.links: dict[str, str] = {}
        self.directories: set[str] = {"/"}
        self.unreadable: dict[str, FileError] = {}
        """path -> the error of reading it."""
        self.before_write: Callable[[str], None] = lambda _path: None
        """Called before the precondition of a write is checked: a test changes the file "by somebody else"
        here.
        """
        self._inode = 0
        for path, content in (contents or {}).items():
            self.put(path, content)

    def put(self, path: str, content: bytes, *, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Lay a file there as somebody else would, with its directories; no fault counts."""
        self._mkdirs(posixpath.dirname(path))
        self._inode += 1
        self.files[path] = FakeFile(content, mode, uid, gid, self._inode)

    def link(self, path: str, target: str) -> None:
        """Lay a symbolic link there."""
        self._mkdirs(posixpath.dirname(path))
        self.links[path] = target

    def make_directory(self, path: str) -> None:
        """Make a directory as somebody else would."""
        self._mkdirs(path)

    def drop(self, path: str) -> None:
        """Remove a file as somebody else would."""
        del self.files[path]

    def snapshot(self) -> dict[str, FakeFile | str | None]:
        """Everything that is there, to compare: files without inode numbers, links, directories (None)."""
        found: dict[str, FakeFile | str | None] = dict.fromkeys(self.directories)
        found.update({path: replace(file, inode=0) for path, file in self.files.items()})
        found.update(self.links)
        return found

    def inodes(self) -> dict[str, int]:
        """path -> inode number: equal before and after where nothing was written."""
        return {path: file.inode for path, file in self.files.items()}

    def read(self, path: str) -> FileFact | None:
        if path in self.unreadable:
            raise self.unreadable[path]
        target = self._final(path)
        if target in self.directories:
            raise FileError("NNA0421", f"cannot use {path}", cause="not a regular file")
        file = self.files.get(target)
        if file is None:
            return None
        digest = hashlib.sha256(file.content).hexdigest()
        return FileFact(
            path, file.content, digest, file.mode, file.uid, file.gid, target if target != path else ""
        )  # fmt: skip

    def head(self, path: str, count: int) -> bytes | None:
        fact = self.read(path)
        return None if fact is None else fact.content[:count]

    def stamp(self, path: str) -> str | None:
        fact = self.read(path)
        return None if fact is None else f"{self.files[self._final(path)].inode} {len(fact.content)} 1"

    def sha256(self, path: str) -> str | None:
        fact = self.read(path)
        return None if fact is None else fact.sha256

    def listdir(self, path: str) -> tuple[str, ...]:
        prefix = path.rstrip("/") + "/"
        names = {
            known[len(prefix) :].partition("/")[0]
            for known in (*self.files, *self.links, *self.directories)
            if known.startswith(prefix) and known != prefix
        }
        return tuple(sorted(names))

    def replace(
        self, path: str, content: bytes, *, mode: int, uid: int, gid: int, expect_sha256: str
    ) -> tuple[str, ...]:
        with self.faults.around("replace", path):
            self.before_write(path)
            self._expect(path, expect_sha256)
            target = self._final(path)
            made = self._mkdirs(posixpath.dirname(target))
            self._inode += 1
            self.files[target] = FakeFile(content, mode, uid, gid, self._inode)
        return made

    def remove(self, path: str, *, expect_sha256: str) -> None:
        with self.faults.around("remove", path):
            self.before_write(path)
            if path in self.links:
                raise FileError("NNA0422", f"cannot use {path}", cause="it is a symbolic link")
            self._expect(path, expect_sha256)
            if expect_sha256:
                del self.files[path]

    def sync(self, directory: str) -> None:
        """All that is here is on the disk."""

    def sweep(self, path: str) -> None:
        """No writer of this fake is ever killed in the middle."""

    def remove_empty_directory(self, path: str) -> bool:
        with self.faults.around("remove_empty_directory", path):
            if path not in self.directories or self.listdir(path):
                return False
            self.directories.discard(path)
        return True

    def remove_link(self, path: str) -> bool:
        with self.faults.around("remove_link", path):
            return self.links.pop(path, None) is not None

    def empty(self, path: str) -> int:
        in_place = path in self.files or path in self.links
        names = [path] if in_place else [f"{path}/{name}" for name in self.listdir(path)]
        gone = [name for name in names if name in self.files or name in self.links]
        for name in gone:
            self.files.pop(name, None)
            self.links.pop(name, None)
        return len(gone)

    def _expect(self, path: str, expect_sha256: str) -> None:
        fact = self.read(path)
        seen = fact.sha256 if fact is not None else ""
        if seen != expect_sha256:
            raise FileChangedError(
                "NNA0412", f"{path} is not what it was", cause="another program changed it"
            )

    def _final(self, path: str) -> str:
        if path not in self.links:
            return path
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), self.links[path]))
        if target not in self.files and target not in self.directories:
            raise FileError("NNA0421", f"cannot use {path}", cause="it is a link to nothing")
        return target

    def _mkdirs(self, path: str) -> tuple[str, ...]:
        made: list[str] = []
        while path not in self.directories:
            if path in self.files:
                raise FileError("NNA0421", f"cannot make the directory {path}", cause="a file is there")
            made.insert(0, path)
            path = posixpath.dirname(path)
        self.directories.update(made)
        return tuple(made)
