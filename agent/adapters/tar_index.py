"""A tar on this machine as a directory of files that are read in place: where each one's bytes are, and no more.

Nothing is extracted, and no name in it ever becomes a path here: links are looked up among its own names.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import shlex
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from agent.adapters.layer_files import Entry
from agent.adapters.walk import READ
from agent.errors import ConvertError
from agent.oci.formats import unsound

_PIECE = 1 << 20
_MOST = 20_000
"""Entries: an image has 512 layers at most, and an archive of some hundred images is still far from this."""
_MOST_LINKS = 8
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A file in the archive: where its bytes are, or the name in the archive that it is a link to."""

    start: int
    size: int
    link: str = ""


class TarIndex:
    """An archive's files by their names. The archive is opened for each read, and looked through at the first one."""

    def __init__(self, path: str) -> None:
        self.what = path
        self._parts: dict[str, _Part] | None = None

    def has(self, name: str) -> bool:
        """Whether there is a file of this name. Raises ConvertError as `pieces`."""
        return name in self._looked()

    def size(self, name: str) -> int:
        """Bytes of a file. Raises ConvertError as `pieces`."""
        return self._part(name).size

    def start(self, name: str) -> int:
        """Where in the archive a file's bytes begin: links to one file have this in common. Raises as `pieces`."""
        return self._part(name).start

    def pieces(self, name: str, most: int) -> Iterator[bytes]:
        """A file's bytes, `most` at most. Raises ConvertError: NNA1401 it is not there or cannot be read, NNA1403 the
        archive is not sound."""
        part = self._part(name)
        at, left = part.start, min(part.size, most)
        with self._opened() as file:
            while left > 0:
                piece = self._read(file, min(_PIECE, left), at)
                if not piece:
                    raise unsound(self.what, f"{name} ends early")
                at, left = at + len(piece), left - len(piece)
                yield piece

    def _part(self, name: str) -> _Part:
        parts, here = self._looked(), posixpath.normpath(name)
        for links in range(_MOST_LINKS):
            part = parts.get(here)
            if part is None:
                cause = f"{name} is a link to {here[:200]!r}, which is not in it" if links else f"it has no {name}"
                raise ConvertError("NNA1401", f"{self.what} cannot be read", cause=cause)
            if not part.link:
                return part
            here = part.link
            if here.startswith(("/", "../")):
                raise unsound(self.what, f"{name} is a link out of it, to {here[:200]!r}")
        raise unsound(self.what, f"{name} is a link to a link to a link, and so on")

    def _looked(self) -> dict[str, _Part]:
        if self._parts is None:
            with self._opened() as file:
                _need_plain(self._read(file, 8, 0), self.what)
                try:
                    self._parts = dict(_parts(file, self.what))
                except (tarfile.TarError, OverflowError, ValueError, RecursionError) as error:
                    raise unsound(self.what, str(error) or type(error).__name__) from None
                except OSError as error:
                    raise _unreadable(self.what, error.strerror or "") from None
        return self._parts

    def _read(self, file: BinaryIO, count: int, at: int) -> bytes:
        try:
            return os.pread(file.fileno(), count, at)
        except OSError as error:
            raise _unreadable(self.what, f"{error.strerror}, at {at}") from None

    def _opened(self) -> BinaryIO:
        try:
            file = os.fdopen(os.open(self.what, READ), "rb")
        except OSError as error:
            link = os.path.islink(self.what)
            cause = "it is a link: name the file itself" if link else error.strerror or ""
            raise _unreadable(self.what, cause) from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise _unreadable(self.what, "it is no file")
        return file


def _parts(file: BinaryIO, what: str) -> Iterator[tuple[str, _Part]]:
    """The names in the archive and where they lead. A name twice would let two readers see two images."""
    end, seen, count = os.fstat(file.fileno()).st_size, dict[str, bool](), 0
    with tarfile.open(fileobj=file, mode="r:", tarinfo=Entry) as tar:
        for entry in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every entry that it has seen
            count += 1
            if count > _MOST:
                raise unsound(what, f"it has more than {_MOST} entries")
            name = _name_of(entry, what)
            if entry.size < 0 or entry.offset_data + (entry.size if entry.isreg() else 0) > end:
                raise unsound(what, f"{name[:200]!r} ends early")
            if name in seen and not (entry.isdir() and seen[name]):
                raise unsound(what, f"it has {name[:200]!r} twice")
            seen[name] = entry.isdir()
            if (part := _part_of(entry, name)) is not None:
                yield name, part
        _need_end(file, tar.offset, what)
    # What is below a name comes next to it so. Whoever unpacks it through a link gets another tree.
    for one, other in itertools.pairwise(sorted(seen, key=lambda name: name.replace("/", "\0"))):
        if not seen[one] and other.startswith(f"{one}/"):
            raise unsound(what, f"it has {other[:200]!r}, and {one[:200]!r} is no directory")


def _name_of(entry: tarfile.TarInfo, what: str) -> str:
    if "\0" in entry.name:
        raise unsound(what, f"it has a name that no file can have, {entry.name[:200]!r}")
    if entry.name.startswith("/") or ".." in entry.name.split("/"):
        raise unsound(what, f"it has a name that leads out of it, {entry.name[:200]!r}")
    return posixpath.normpath(entry.name)


def _part_of(entry: tarfile.TarInfo, name: str) -> _Part | None:
    """None for what is neither file nor link: nobody asks for it. A hard link has its target's name from the top."""
    if entry.issym():
        return _Part(0, 0, posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname)))
    if entry.islnk():
        return _Part(0, 0, posixpath.normpath(entry.linkname))
    return _Part(entry.offset_data, entry.size) if entry.isreg() else None


def _need_plain(begin: bytes, what: str) -> None:
    """Raises ConvertError for an archive that is compressed: its files cannot be read in place."""
    for magic, kind in _PACKED.items():
        if begin.startswith(magic):
            # -d alone takes names that end as the program has it, and no others (`regctl image export --compress`).
            command = f"{kind} -dc {shlex.quote(what)} >image.tar"
            raise ConvertError("NNA1401", f"{what} cannot be read", cause=f"it is compressed with {kind}", try_=command)


def _need_end(file: BinaryIO, at: int, what: str) -> None:
    """Two blocks of zeros, or nothing more. tarfile takes a header that is none for the end, and one such block."""
    if os.pread(file.fileno(), 2 * tarfile.BLOCKSIZE, at).strip(b"\0"):
        raise unsound(what, f"at {at} there is no header of a tar, and no end of one")


def _unreadable(what: str, cause: str) -> ConvertError:
    return ConvertError("NNA1401", f"{what} cannot be read", cause=cause)
