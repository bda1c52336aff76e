"""Bundle files on the disk: read where root opens them, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator

from agent.adapters.files import as_file_errors, opened, sweep_beside, temporary
from agent.adapters.walk import Place, place_of, sync_directory
from agent.artifacts import bundle
from agent.artifacts.bundle import Bundle, Member
from agent.errors import ArtifactError, FileError

_PIECE = 1 << 20


class BundleFiles:
    """Bundles and directories of archives under `root`: "/" on a node, a directory in tests."""

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, path: str) -> Bundle:
        """See ports_artifacts.Bundles."""
        with as_file_errors("read", path), place_of(self._root, path) as place, _need(place, path) as descriptor:
            return bundle.opened(lambda offset, count: _read_at(descriptor, offset, count), _size(descriptor), path)

    def write(self, path: str, planned: Bundle, archives: str, progress: Callable[[Member, int], None]) -> None:
        """See ports_artifacts.Bundles."""
        with as_file_errors("write", path), place_of(self._root, path) as place:
            if place is None:
                raise FileError("NNA0421", f"cannot write {path}", cause="there is no such directory")
            sweep_beside(place)
            with temporary(place) as (name, descriptor):
                for offset, frame in planned.frames():
                    _write_at(descriptor, offset, frame)
                for member in planned.members:
                    done = 0
                    for piece in self._pieces(member, f"{archives}/{member.name}"):
                        _write_at(descriptor, member.offset + done, piece)
                        done += len(piece)
                        progress(member, done)
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
                os.rename(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            sync_directory(place.directory)

    def _pieces(self, member: Member, path: str) -> Iterator[bytes]:
        """The archive's bytes in order. Raises ArtifactError, after the last one too, and FileError."""
        with as_file_errors("read", path), place_of(self._root, path) as place, _need(place, path) as source:
            size = member.artifact.size
            if _size(source) != size:
                raise _other("NNA1114", path, member, f"it is {_size(source)} bytes long, {size} are pinned")
            digest = hashlib.sha256()
            done = 0
            while done < size:
                piece = os.pread(source, min(_PIECE, size - done), done)
                if not piece:
                    raise _other("NNA1114", path, member, f"it ended after {done} bytes while it was read")
                digest.update(piece)
                done += len(piece)
                yield piece
        if digest.hexdigest() != member.artifact.sha256:
            cause = f"its sha256 is {digest.hexdigest()}, {member.artifact.sha256} is pinned"
            raise _other("NNA1115", path, member, cause)


@contextlib.contextmanager
def _need(place: Place | None, path: str) -> Iterator[int]:
    """The regular file at a place, opened for reading. Raises FileError where it is not there."""
    with opened(place, path) as descriptor:
        if descriptor is None:
            raise FileError("NNA0421", f"cannot use {path}", cause="there is no such file")
        yield descriptor


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
