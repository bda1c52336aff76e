"""Bundle files on the disk: read where root opens them, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator

from agent.adapters.walk import Place, place_of, sync_directory
from agent.artifacts import bundle
from agent.artifacts.bundle import Bundle, Member
from agent.errors import ArtifactError, FileError

_PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class BundleFiles:
    """Bundles and directories of archives under `root`: "/" on a node, a directory in tests."""

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, path: str) -> Bundle:
        """See ports_artifacts.Bundles."""
        with _told("read", path), place_of(self._root, path) as place, _opened(place, path) as descriptor:
            return bundle.opened(lambda offset, count: _read_at(descriptor, offset, count), _size(descriptor), path)

    def write(self, path: str, planned: Bundle, archives: str, progress: Callable[[Member, int], None]) -> None:
        """See ports_artifacts.Bundles."""
        with _told("write", path), place_of(self._root, path) as place:
            if place is None:
                raise FileError("NNA0421", f"cannot write {path}", cause="there is no such directory")
            with _temporary(place) as (name, descriptor):
                for offset, frame in planned.frames():
                    _write_at(descriptor, offset, frame)
                for member in planned.members:
                    self._copy(descriptor, member, archives, progress)
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
                os.rename(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            sync_directory(place.directory)

    def _copy(self, target: int, member: Member, archives: str, progress: Callable[[Member, int], None]) -> None:
        path = f"{archives}/{member.name}"
        with _told("read", path), place_of(self._root, path) as place, _opened(place, path) as source:
            if _size(source) != member.artifact.size:
                raise _other(
                    "NNA1114", path, member, f"it is {_size(source)} bytes long, {member.artifact.size} are pinned"
                )
            digest = hashlib.sha256()
            done = 0
            while done < member.artifact.size:
                piece = os.pread(source, min(_PIECE, member.artifact.size - done), done)
                if not piece:
                    raise _other("NNA1114", path, member, f"it ended after {done} bytes while it was read")
                digest.update(piece)
                _write_at(target, member.offset + done, piece)
                done += len(piece)
                progress(member, done)
        if digest.hexdigest() != member.artifact.sha256:
            cause = f"its sha256 is {digest.hexdigest()}, {member.artifact.sha256} is pinned"
            raise _other("NNA1115", path, member, cause)


@contextlib.contextmanager
def _told(doing: str, path: str) -> Iterator[None]:
    if not path.startswith("/") or "\0" in path:
        raise FileError("NNA0421", f"cannot {doing} {path!r}", cause="it is not an absolute path")
    try:
        yield
    except OSError as error:
        raise FileError("NNA0427", f"cannot {doing} {path}", cause=error.strerror or str(error)) from error


@contextlib.contextmanager
def _opened(place: Place | None, path: str) -> Iterator[int]:
    if place is None:
        raise FileError("NNA0421", f"cannot use {path}", cause="there is no such file")
    descriptor = os.open(place.name, _READ, dir_fd=place.directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileError("NNA0421", f"cannot use {path}", cause="it is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(place: Place) -> Iterator[tuple[str, int]]:
    """A new file beside the place, gone afterwards unless it was renamed."""
    name = f".{place.name}.{secrets.token_hex(8)}.nna-tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=place.directory)
    try:
        yield name, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place.directory)


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def _read_at(descriptor: int, offset: int, count: int) -> bytes:
    pieces: list[bytes] = []
    while count > 0 and (piece := os.pread(descriptor, count, offset)):
        pieces.append(piece)
        offset, count = offset + len(piece), count - len(piece)
    return b"".join(pieces)


def _write_at(descriptor: int, offset: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _other(code: str, path: str, member: Member, cause: str) -> ArtifactError:
    return ArtifactError(code, f"{path} is not the lock's {member.artifact}, no bundle was written", cause=cause)
