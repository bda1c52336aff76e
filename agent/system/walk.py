"""Files by directory descriptors: no link is followed that somebody other than root could have laid.

`open(2)` resolves every link on the way, so a user who can write to one directory of a path can point root
anywhere. Here each directory is opened below the one before it with O_NOFOLLOW. A symbolic link is followed
only where root (or the user that runs this) alone can change the directories that lead to it and to its
target.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import FileError

PROGRAM_CAP = 1 << 30
"""Bytes; no program is longer, and a digest must come to an end."""
_MAX_LINKS = 40  # as the kernel (path_resolution(7))
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How root opens a file that others may have laid: no link, no fifo that it would wait for, no terminal of
its own.
"""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How root makes a file, which must not be there."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is or would be: `name` in the directory behind the O_PATH descriptor `directory`."""

    directory: int
    name: str
    resolved: str
    """The path below the root with all links resolved."""
    laid_by_link: bool
    """The last component was a link and this is its target."""


@contextlib.contextmanager
def place_of(
    root: str, path: str, *, make: list[str] | None = None, follow: bool = True
) -> Iterator[Place | None]:
    """The place of `path` under `root`, valid inside the with block; None where a directory on the way is
    missing.

    With `make`, missing directories are made (0755) and their paths appended to it. `follow` says whether a
    link as last component is followed. Raises FileError (NNA0421 a link to nothing or a loop, NNA0422 a link
    or a directory that cannot be trusted) and OSError.
    """
    walk = _Walk(root, path)
    try:
        yield walk.go(make, follow=follow)
    finally:
        walk.close()


class _Walk:
    def __init__(self, root: str, path: str) -> None:
        self.path = path
        self.descriptors = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        self.names: list[str] = []
        self.links = 0

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def go(self, make: list[str] | None, *, follow: bool) -> Place | None:
        pending = [(part, False) for part in _parts(self.path)]
        last_was_link = False
        while pending:
            part, from_link = pending.pop(0)
            if part == "..":
                self._up()
                continue
            target = self._link_target(part) if pending or follow else ""
            if target:
                last_was_link = last_was_link or not pending
                self._trust_link(target)
                pending[:0] = [(piece, True) for piece in _parts(target)]
            elif not pending:
                if self.links:
                    self._need_trust()
                return Place(self.descriptors[-1], part, "/" + "/".join([*self.names, part]), last_was_link)
            elif not self._enter(part, None if from_link else make):
                if from_link:
                    raise self._unusable("a symbolic link on the way leads to nothing")
                return None
        raise self._unusable("it is not the path of a file")

    def _link_target(self, part: str) -> str:
        try:
            return os.readlink(part, dir_fd=self.descriptors[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # not a link; not there
                return ""
            raise

    def _trust_link(self, target: str) -> None:
        self.links += 1
        if self.links > _MAX_LINKS:
            raise self._unusable("too many symbolic links")
        self._need_trust()
        if target.startswith("/"):
            while self.names:
                self._up()

    def _need_trust(self) -> None:
        """Of all directories that lead here. Raises FileError."""
        for depth, descriptor in enumerate(self.descriptors):
            status = os.fstat(descriptor)
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                where = "/" + "/".join(self.names[:depth])
                raise FileError(
                    "NNA0422", f"will not follow the symbolic link in {self.path}",
                    cause=f"others than root can write to {where}",
                    seen=(f"{where}: owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",),
                )  # fmt: skip

    def _up(self) -> None:
        if self.names:
            self.names.pop()
            os.close(self.descriptors.pop())

    def _enter(self, part: str, make: list[str] | None) -> bool:
        try:
            descriptor = os.open(part, _DIRECTORY, dir_fd=self.descriptors[-1])
        except FileNotFoundError:
            if make is None:
                return False
            descriptor = self._make(part, make)
        self.descriptors.append(descriptor)
        self.names.append(part)
        return True

    def _make(self, part: str, make: list[str]) -> int:
        os.mkdir(part, 0o755, dir_fd=self.descriptors[-1])
        make.append("/" + "/".join([*self.names, part]))
        made = os.open(
            part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptors[-1]
        )
        try:
            os.fchmod(made, 0o755)  # whatever the umask was
        finally:
            os.close(made)
        sync_directory(self.descriptors[-1])
        return os.open(part, _DIRECTORY, dir_fd=self.descriptors[-1])

    def _unusable(self, cause: str) -> FileError:
        return FileError("NNA0421", f"cannot use {self.path}", cause=cause)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def open_directory(descriptor: int) -> int:
    """A descriptor that can list and sync, of the directory behind an O_PATH one."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)


def sync_directory(descriptor: int) -> None:
    """Wait until the directory's entries are on the disk."""
    readable = open_directory(descriptor)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(name: str, flags: int, within: int | None = None, mode: int = 0o600) -> Iterator[int]:
    """A descriptor for as long as the block lasts."""
    descriptor = os.open(name, flags, mode, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def directory(name: str, within: int | None = None) -> Iterator[int]:
    """The directory of that name, to be listed and synced."""
    with opened(name, _LISTED, within) as descriptor:
        yield descriptor


def make_directory(name: str, within: int, mode: int = 0o755) -> None:
    """A new directory with these rights, whatever the umask."""
    os.mkdir(name, mode, dir_fd=within)
    with directory(name, within) as made:
        os.fchmod(made, mode)


def write_new(name: str, within: int, content: bytes, mode: int) -> None:
    """A new file that is on the disk when this returns."""
    with opened(name, NEW, within) as descriptor:
        rest = memoryview(content)
        while rest:  # write(2) may take less at a time
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def remove_tree(name: str, within: int) -> None:
    """Remove whatever has that name, with all that is in it; links are removed, never followed."""
    try:
        with directory(name, within) as inner:
            for entry in os.listdir(inner):
                remove_tree(entry, inner)
        os.rmdir(name, dir_fd=within)
    except NotADirectoryError:
        _remove_if_there(name, within)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:  # O_NOFOLLOW met a link
            raise
        _remove_if_there(name, within)


def _remove_if_there(name: str, within: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)


def digest_of(descriptor: int, path: str) -> str:
    """The sha256 of a program's file. Raises FileError for what is longer than any program, OSError."""
    digest, left = hashlib.sha256(), PROGRAM_CAP
    while piece := os.read(descriptor, 1 << 20):
        left -= len(piece)
        if left < 0:
            cause = f"it is longer than {PROGRAM_CAP >> 20} MiB"
            raise FileError("NNA0421", f"cannot use {path}", cause=cause)
        digest.update(piece)
    return digest.hexdigest()
