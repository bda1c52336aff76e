"""Files under a root directory: bounded reads, atomic replacement, and nothing half written.

Every path is found by `walk.place_of`, so root follows no link that others could have laid. Errors of the
system become FileError in one place (`_as_file_errors`). What may be written where is decided by others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import FileChangedError, FileError
from agent.facts.node import FileFact
from agent.system.walk import NEW, READ, Place, digest_of, open_directory, place_of, sync_directory

SIZE_CAP = 16 << 20
"""Bytes; no configuration file is longer, and a read must not eat the node's memory."""

_TEMP_SUFFIX = ".nna-tmp"
"""Matches no pattern that containerd (*.toml) or systemd (*.service, *.conf) reads."""

_LISTED = READ | os.O_DIRECTORY
_LABEL = "security.selinux"
_CODES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ELOOP), "NNA0422"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO), "NNA0421"),
}
"""Of what the system refuses; all else is NNA0427."""


class RootFiles:
    """The files under `root`: "/" on a node, a directory in tests."""

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, path: str) -> FileFact | None:
        """See ports.Files. A link that leads to nothing is an error, not an absent file."""
        with _as_file_errors("read", path), place_of(self._root, path) as place:
            seen = _see(place, path)
            return None if seen is None else seen.fact

    def head(self, path: str, count: int) -> bytes | None:
        """See ports.Files."""
        with self._regular(path) as descriptor:
            return None if descriptor is None else _read_up_to(descriptor, count)

    def stamp(self, path: str) -> str | None:
        """See ports.Files."""
        with self._regular(path) as descriptor:
            if descriptor is None:
                return None
            status = os.fstat(descriptor)
            return f"{status.st_ino} {status.st_size} {int(status.st_mtime)}"

    def sha256(self, path: str) -> str | None:
        """See ports.Files."""
        with self._regular(path) as descriptor:
            return None if descriptor is None else digest_of(descriptor, path)

    def listdir(self, path: str) -> tuple[str, ...]:
        """See ports.Files."""
        with _as_file_errors("list", path):
            if not path.strip("/"):
                return tuple(sorted(os.listdir(self._root)))
            with place_of(self._root, path) as place, _opened(place, path, _LISTED) as descriptor:
                return () if descriptor is None else tuple(sorted(os.listdir(descriptor)))

    def replace(
        self, path: str, content: bytes, *, mode: int, uid: int, gid: int, expect_sha256: str
    ) -> tuple[str, ...]:
        """See ports.Files. On failure the file, and the directories that were missing, are as before."""
        made: list[str] = []
        try:
            with _as_file_errors("write", path), place_of(self._root, path, make=made) as place:
                assert place is not None  # all directories were made
                _replace(place, path, _New(content, mode, uid, gid), expect_sha256)
        except BaseException:
            self._unmake(made)
            raise
        return tuple(made)

    def remove(self, path: str, *, expect_sha256: str) -> None:
        """See ports.Files. Refuses a symbolic link (`remove_link` is for that)."""
        with _as_file_errors("remove", path), place_of(self._root, path, follow=False) as place:
            seen = _see(place, path)
            _expect(seen, path, expect_sha256)
            if place is None or seen is None:
                return
            _need_unchanged(place, path, seen)
            os.unlink(place.name, dir_fd=place.directory)
            _sweep_beside(place)
            sync_directory(place.directory)

    def sync(self, directory: str) -> None:
        """See ports.Files."""
        with (
            _as_file_errors("sync", directory),
            place_of(self._root, directory, follow=False) as place,
            _opened(place, directory, _LISTED) as descriptor,
        ):
            if descriptor is not None:
                os.fsync(descriptor)

    def sweep(self, path: str) -> None:
        """See ports.Files. A temporary file whose writer lives is locked, and stays."""
        beside = f"{path}*" if path.endswith("/") else path
        with _as_file_errors("tidy up beside", path), place_of(self._root, beside) as place:
            if place is not None and _sweep_beside(place, "." if path.endswith("/") else f".{place.name}."):
                sync_directory(place.directory)

    def remove_empty_directory(self, path: str) -> bool:
        """See ports.Files. False also where it is a mount point or no directory at all."""
        with _as_file_errors("remove", path), place_of(self._root, path, follow=False) as place:
            if place is None:
                return False
            try:
                os.rmdir(place.name, dir_fd=place.directory)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY, errno.EEXIST):
                    return False
                raise
            sync_directory(place.directory)
            return True

    def remove_link(self, path: str) -> bool:
        """See ports.Files."""
        with _as_file_errors("remove", path), place_of(self._root, path, follow=False) as place:
            if place is None or not stat.S_ISLNK(_kind(place)):
                return False
            os.unlink(place.name, dir_fd=place.directory)
            sync_directory(place.directory)
            return True

    def empty(self, path: str) -> int:
        """See ports.Files."""
        removed = 0
        with (
            _as_file_errors("empty", path),
            place_of(self._root, path, follow=False) as place,
            contextlib.ExitStack() as stack,
        ):
            if place is not None and not stat.S_ISDIR(_kind(place) or stat.S_IFDIR):
                os.unlink(place.name, dir_fd=place.directory)
                return 1
            directory = stack.enter_context(_opened(place, path, _LISTED))
            # One by one: who owns the directory may have laid a million there.
            for entry in () if directory is None else stack.enter_context(os.scandir(directory)):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(entry.name, dir_fd=directory)
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _regular(self, path: str) -> Iterator[int | None]:
        """The file, opened for reading; None: not there."""
        with (
            _as_file_errors("read", path),
            place_of(self._root, path) as place,
            _opened(place, path) as descriptor,
        ):
            yield descriptor

    def _unmake(self, made: list[str]) -> None:
        for path in reversed(made):
            with contextlib.suppress(FileError):
                self.remove_empty_directory(path)


@dataclass(frozen=True, slots=True)
class _New:
    content: bytes
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _Seen:
    fact: FileFact
    identity: tuple[int, ...]
    label: bytes


@contextlib.contextmanager
def _as_file_errors(doing: str, path: str) -> Iterator[None]:
    """What the system refuses, as a FileError with the code of its class."""
    if not path.startswith("/") or "\0" in path:
        raise FileError("NNA0421", f"cannot {doing} {path!r}", cause="it is not an absolute path")
    try:
        yield
    except OSError as error:
        code = _CODES.get(error.errno or 0, "NNA0427")
        raise FileError(code, f"cannot {doing} {path}", cause=error.strerror or str(error)) from error


@contextlib.contextmanager
def _opened(place: Place | None, path: str, flags: int = READ) -> Iterator[int | None]:
    """The regular file at a place (with O_DIRECTORY the directory), opened for reading; None: not there."""
    descriptor = None if place is None else _open(place, path, flags)
    try:
        wanted = stat.S_ISDIR if flags & os.O_DIRECTORY else stat.S_ISREG
        if descriptor is not None and not wanted(os.fstat(descriptor).st_mode):
            raise FileError("NNA0421", f"cannot use {path}", cause="it is not a regular file")
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(place: Place, path: str, flags: int) -> int | None:
    try:
        return os.open(place.name, flags, dir_fd=place.directory)
    except FileNotFoundError:
        if place.laid_by_link:
            raise FileError(
                "NNA0421", f"cannot use {path}", cause="it is a symbolic link to nothing"
            ) from None
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileError("NNA0422", f"cannot use {path}", cause="it is a symbolic link") from None
        raise


def _kind(place: Place) -> int:
    """The mode of what is there; 0: nothing."""
    try:
        return os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _see(place: Place | None, path: str) -> _Seen | None:
    with _opened(place, path) as descriptor:
        if place is None or descriptor is None:
            return None
        status = os.fstat(descriptor)
        content = _read_up_to(descriptor, SIZE_CAP + 1)
        if len(content) > SIZE_CAP:
            raise FileError("NNA0421", f"cannot use {path}", cause=f"it is longer than {SIZE_CAP >> 20} MiB")
        fact = FileFact(
            path, content, hashlib.sha256(content).hexdigest(), status.st_mode & 0o777, status.st_uid,
            status.st_gid, place.resolved if place.laid_by_link else "",
        )  # fmt: skip
        return _Seen(fact, _identity(status), _read_label(descriptor))


def _read_up_to(descriptor: int, count: int) -> bytes:
    pieces: list[bytes] = []
    while count > 0 and (piece := os.read(descriptor, min(count, 1 << 20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _read_label(descriptor: int) -> bytes:
    try:
        return os.getxattr(descriptor, _LABEL)
    except OSError:  # no such attribute, or a file system without any
        return b""


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _expect(seen: _Seen | None, path: str, expect_sha256: str) -> None:
    found = "" if seen is None else seen.fact.sha256
    if found == expect_sha256:
        return
    cause = (
        "it is gone" if seen is None else "it is there now" if not expect_sha256 else "its content changed"
    )
    raise _changed(path, cause, f"sha256 {expect_sha256 or '-'} was seen, {found or '-'} is there")


def _need_unchanged(place: Place, path: str, seen: _Seen | None) -> None:
    """The last look before the act: somebody may have written while we did."""
    try:
        status = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        if seen is not None:
            raise _changed(path, "it is gone", "") from None
        return
    if seen is None or _identity(status) != seen.identity:
        raise _changed(path, "another program wrote it at this moment", "")


def _changed(path: str, cause: str, seen: str) -> FileChangedError:
    what, said = f"{path} is not what it was", (seen,) if seen else ()
    return FileChangedError("NNA0412", what, cause=cause, seen=said, try_="nydus-agent plan")


def _replace(place: Place, path: str, new: _New, expect_sha256: str) -> None:
    seen = _see(place, path)
    _expect(seen, path, expect_sha256)
    _sweep_beside(place)
    with _temporary(place) as (name, descriptor):
        _fill(descriptor, new, b"" if seen is None else seen.label)
        _need_unchanged(place, path, seen)
        if seen is None:
            _appear(place, path, name)
        else:
            os.rename(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    sync_directory(place.directory)


@contextlib.contextmanager
def _temporary(place: Place) -> Iterator[tuple[str, int]]:
    """A new file beside the place, locked while it is in use and gone afterwards (unless renamed)."""
    name = f".{place.name}.{os.urandom(8).hex()}{_TEMP_SUFFIX}"
    descriptor = os.open(name, NEW, 0o600, dir_fd=place.directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield name, descriptor
    finally:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place.directory)
        finally:
            os.close(descriptor)  # also where it could not be removed: a later sweep must find it unlocked


def _fill(descriptor: int, new: _New, label: bytes) -> None:
    rest = memoryview(new.content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fchown(descriptor, new.uid, new.gid)
    os.fchmod(descriptor, new.mode)
    if label:
        os.setxattr(descriptor, _LABEL, label)
    os.fsync(descriptor)


def _appear(place: Place, path: str, temporary: str) -> None:
    """Give the finished file its name, which must be free: link(2) fails where rename(2) would overwrite."""
    where = {"src_dir_fd": place.directory, "dst_dir_fd": place.directory}
    try:
        os.link(temporary, place.name, follow_symlinks=False, **where)
    except FileExistsError:
        raise _changed(path, "it is there now", "") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):  # no hard links there
            raise
        os.rename(temporary, place.name, **where)


def _sweep_beside(place: Place, start: str = "") -> int:
    """Remove temporary files of this name whose writer died: nobody holds their lock any more. Says how many.

    `start` is how their names begin, where they are not those of this one file.
    """
    directory = open_directory(place.directory)
    try:
        left = [name for name in os.listdir(directory) if name.startswith(start or f".{place.name}.")]
        return sum(_remove_unlocked(directory, name) for name in left if name.endswith(_TEMP_SUFFIX))
    finally:
        os.close(directory)


def _remove_unlocked(directory: int, name: str) -> bool:
    try:
        descriptor = os.open(name, READ, dir_fd=directory)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
