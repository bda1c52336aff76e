"""Take the programs out of an archive whose digest was checked: the named regular files, and nothing else.

No path of the archive is ever made: each program is copied into a file of our own name.
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.programs.lock import ARCHIVE_CAP, Program
from agent.programs.release import ProgramName
from agent.programs.versions import ELF_HEADER, elf_architecture

_PIECE = 1 << 20
_MEMBERS = 10_000
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, RecursionError, ValueError)


def take(archive: Path, names: Sequence[ProgramName], arch: Arch, into: Path) -> tuple[Program, ...]:
    """Copy the programs of these names into a directory, and say what they are, in the order of `names`.

    Raises ProgramsError NNA1115 where the archive, or one of them, is not as it must be, and OSError where a
    file cannot be written.
    """
    taken: dict[str, Program] = {}
    try:
        with gzip.open(archive, "rb") as unpacked, _tar(unpacked) as tar:
            for member in _members(tar):
                if (name := _wanted(member, names)) is None:
                    continue
                if name in taken:
                    raise _refused(archive, f"it has {name} twice")
                taken[name] = _copy(tar, member, name, arch, into)
    except _DAMAGED as error:
        raise _refused(archive, str(error) or type(error).__name__) from None
    missing = [name for name in names if name not in taken]
    if missing:
        raise _refused(archive, f"it has no {' and no '.join(missing)}")
    return tuple(taken[name] for name in names)


class _Bounded:
    """An unpacked archive of which no more than so many bytes are read, in all and at once.

    tarfile reads a member's extended headers whole, however long they say that they are.
    """

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE:
            raise ValueError(f"a header of it is longer than {_PIECE} bytes")
        content = self._stream.read(size)
        self._check(self._stream.tell())
        return content

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    @staticmethod
    def _check(position: int) -> None:
        if not 0 <= position <= ARCHIVE_CAP:
            raise ValueError(f"it unpacks to more than {ARCHIVE_CAP >> 20} MiB")


def _tar(unpacked: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("IO[bytes]", _Bounded(unpacked)), mode="r:")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(tar):
        if count >= _MEMBERS:
            raise ValueError(f"it has more than {_MEMBERS} members")
        if member.size < 0:  # tarfile would go backwards, for ever
            raise ValueError("a member of it has a size below 0")
        yield member


def _wanted(member: tarfile.TarInfo, names: Sequence[ProgramName]) -> ProgramName | None:
    """Which program a member is. Raises ValueError for one that has a program's name and cannot be one."""
    name = next((one for one in names if one == posixpath.basename(member.name)), None)
    if name is None or member.isdir():
        return None
    if member.type not in _REGULAR or member.issparse():
        raise ValueError(f"{name} in it is no regular file")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise ValueError(f"{name} in it has a path that leads out of it")
    return name


def _copy(
    tar: tarfile.TarFile, member: tarfile.TarInfo, name: ProgramName, arch: Arch, into: Path
) -> Program:
    content = tar.extractfile(member)
    assert content is not None  # it is a regular file
    digest, size, head = hashlib.sha256(), 0, b""
    with open(into / name, "xb") as file:
        while piece := content.read(_PIECE):
            head = head or piece[:ELF_HEADER]
            size += len(piece)
            digest.update(piece)
            file.write(piece)
    if size != member.size:
        raise EOFError(f"{name} in it is cut off")
    made_for = elf_architecture(head)
    if made_for is not arch:
        raise ValueError(f"{name} in it is for {made_for.value}, not for {arch.value}")
    return Program(name, size, digest.hexdigest())


def _refused(archive: Path, cause: str) -> ProgramsError:
    return ProgramsError("NNA1115", f"{archive.name} cannot be used", cause=cause)
