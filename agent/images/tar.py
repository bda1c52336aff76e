"""The tar of a layer, header by header: nothing is extracted, and what nydus-image would misread is refused.

tarfile understands the headers of one entry at a time. Its own walk would keep every entry, read headers and
lists of holes however long they say that they are, and heed headers for all files, which Go's archive/tar
does not.
"""

from __future__ import annotations

import enum
import hashlib
import io
import math
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.errors import ConvertError

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
XATTR = "SCHILY.xattr."  # as GNU tar, star, Go's archive/tar and with it every builder of images write them
_BEFORE_A_FILE = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LONGEST_HEADERS = 1 << 20  # as Go's archive/tar has it (maxSpecialFileSize)
_LONGEST_NAME = 4096  # linux/limits.h, PATH_MAX: no node could unpack it
_LARGEST = 1 << 42


class NodeKind(enum.StrEnum):
    """Of a file."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


_KINDS = {
    tarfile.REGTYPE: NodeKind.FILE, tarfile.AREGTYPE: NodeKind.FILE, tarfile.DIRTYPE: NodeKind.DIRECTORY,
    tarfile.SYMTYPE: NodeKind.SYMLINK, tarfile.CHRTYPE: NodeKind.CHARACTER, tarfile.BLKTYPE: NodeKind.BLOCK,
    tarfile.FIFOTYPE: NodeKind.FIFO,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file with all that is compared. Two names of one node (`is`) are hard links."""

    kind: NodeKind
    mode: int = 0
    """The twelve lowest bits."""
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    content: str = ""
    """The sha256 of its content; empty where nobody asked."""
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    implied: bool = False
    """A directory that no layer names, only files below it: its rights are nobody's to say."""


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry of a tar: a file, or another name of one that comes before it (a hard link)."""

    start: int
    """Where in the tar its first header begins."""
    name: str
    node: FileNode | None
    hard_link: str = ""


class TarWalk:
    """The entries of a tar that comes in pieces; all of it is read. Raises ConvertError: NNA1403 it is not
    sound, NNA1403 it has a file that nydus-image does not read, or reads as another one."""

    def __init__(self, pieces: Iterator[bytes], *, content: bool) -> None:
        self._pieces, self._left, self._content = pieces, memoryview(b""), content
        self.length = 0
        """Bytes of the tar so far."""
        self.end = 0
        """Where the last entry ends, with its padding."""
        self.data = 0
        """Bytes of all files together."""
        self.behind = False
        """Something is behind the end."""

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self._next()) is not None:
            self.end = self.length + -self.length % _BLOCK
            yield entry
        while piece := self._read(_PIECE):
            self.behind = self.behind or bool(piece.strip(b"\0"))

    def _next(self) -> TarEntry | None:
        # Umoci 0.4.7 leaves out the padding of the last file; Go does not ask for it.
        self._read(-self.length % _BLOCK)
        start, headers = self.length, b""
        while (block := self._read(_BLOCK)).strip(b"\0"):
            headers += block
            header = _parsed(block)
            if header.type not in _BEFORE_A_FILE:
                return self._entry(start, header, headers)
            if not 0 <= header.size <= _LONGEST_HEADERS or len(headers) > _LONGEST_HEADERS:
                raise _unsound("the headers of a file are too long")
            headers += self._read(header.size + -header.size % _BLOCK)
        if headers:
            raise _unsound("it ends behind a header that belongs to a file")
        return None

    def _entry(self, start: int, header: tarfile.TarInfo, headers: bytes) -> TarEntry:
        # Of the sparse files of pax, nydus-image 2.2.0 makes others, whose content begins with the list of
        # holes.
        if header.type == tarfile.GNUTYPE_SPARSE or b"GNU.sparse." in headers:
            raise _refused(f"{header.name!r} is sparse")
        found = header if len(headers) == _BLOCK else _extended(headers)
        name, kind = found.name, _KINDS.get(header.type)
        if kind is None and header.type != tarfile.LNKTYPE:
            raise _refused(f"{name[:200]!r} is an entry of the type {header.type!r}")
        if max(len(name), len(found.linkname)) > _LONGEST_NAME or "\0" in name:
            raise _unsound(f"a name that no file can have, {name[:200]!r}")
        if not 0 <= found.size <= _LARGEST or (found.size and kind is not NodeKind.FILE):
            raise _unsound(f"{name[:200]!r} has {found.size} bytes")
        if not all(0 <= owner < 1 << 32 for owner in (found.uid, found.gid)):
            raise _unsound(f"{name[:200]!r} has an owner that no file can have")
        if kind is None:
            return TarEntry(start, name, None, found.linkname)
        xattrs = {
            key.removeprefix(XATTR): value.encode("utf-8", "surrogateescape")
            for key, value in found.pax_headers.items()
            if key.startswith(XATTR)
        }
        node = FileNode(
            kind, found.mode & 0o7777, found.uid, found.gid, int(found.mtime // 1), found.size,
            self._data(name, found.size) if kind is NodeKind.FILE else "",
            found.linkname if kind is NodeKind.SYMLINK else "",
            (found.devmajor, found.devminor) if kind in (NodeKind.CHARACTER, NodeKind.BLOCK) else (0, 0),
            xattrs,
        )  # fmt: skip
        return TarEntry(start, name, node)

    def _data(self, name: str, size: int) -> str:
        """Read the data of a file: its sha256, where that is asked for."""
        hashed, left = hashlib.sha256(), size
        while left:
            piece = self._read(min(left, _PIECE))
            if not piece:
                raise _unsound(f"it ends within {name[:200]!r}")
            left -= len(piece)
            if self._content:
                hashed.update(piece)
        self.data += size
        return hashed.hexdigest() if self._content else ""

    def _read(self, count: int) -> bytes:
        """So many bytes; fewer only where the tar ends."""
        got = bytearray()
        while len(got) < count:
            if not self._left:
                self._left = memoryview(next(self._pieces, b""))
                if not self._left:
                    break
            part = self._left[: count - len(got)]
            got += part
            self._left = self._left[len(part) :]
        self.length += len(got)
        return bytes(got)


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise _unsound(f"where a header is to be there is none ({error})") from None


def _extended(headers: bytes) -> tarfile.TarInfo:
    """What several headers together say of a file."""
    try:
        with tarfile.open(
            fileobj=io.BytesIO(headers), mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            found = tar.next()
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise _unsound(f"an extended header is none ({error})") from None
    if found is None or not math.isfinite(found.mtime):
        raise _unsound("an extended header is none")
    return found


def _unsound(cause: str) -> ConvertError:
    return ConvertError("NNA1403", "the tar of a layer is not sound", cause=cause)


def _refused(cause: str) -> ConvertError:
    return ConvertError(
        "NNA1403", "a layer is not converted", cause=f"{cause}: nydus-image does not read such files"
    )
