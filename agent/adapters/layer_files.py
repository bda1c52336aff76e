"""Layers on this machine: decompressed as a stream, and read as tars. Nothing is ever extracted."""

from __future__ import annotations

import hashlib
import io
import os
import select
import stat
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from agent.adapters.process import Feed
from agent.adapters.walk import READ
from agent.errors import ConvertError, ProcessError
from agent.oci.tree import Kind, Member, Node
from agent.ports_convert import LayerFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE = 1 << 20
_XATTR = "SCHILY.xattr."  # as GNU tar, star, Go's archive/tar and with it every builder of images write them
_SILENCE_S = 60
_GZIP = 31  # zlib's window bits of a gzip stream
_BEFORE_ANOTHER = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip
_LONGEST_HEADER = 1 << 20  # as Go's archive/tar has it (maxSpecialFileSize), and with it containerd
_LONGEST_NAME = 4096  # linux/limits.h, PATH_MAX: no node could unpack it
_MOST_FOR_ALL = 100
"""Records of headers for all files that follow: tarfile keeps them, and GNU tar writes two or three."""
_OF_ONE = frozenset(("path", "linkpath", "size"))
_NO_HEADER = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]  # typeshed has them not
_KINDS = {
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def unpacked(layer: LayerFile) -> Iterator[bytes]:
    """The layer's tar, in pieces. Raises ConvertError: NNA1421 it is longer than it may be, NNA1423."""
    readers = {"": _plain, "gzip": _gunzipped, "zstd": _unzstd}
    left = layer.limit
    for piece in readers[layer.compression](layer.path):
        left -= len(piece)
        if left < 0:
            raise ConvertError(
                "NNA1421", "the image unpacks to too much", cause=f"more than the {layer.limit} bytes that were left"
            )
        yield piece


def checked(layer: LayerFile) -> Iterator[bytes]:
    """The layer's tar; at its end it is what the image says. Raises ConvertError NNA1421, NNA1422, NNA1423."""
    hashed = hashlib.sha256()
    for piece in unpacked(layer):
        hashed.update(piece)
        yield piece
    if f"sha256:{hashed.hexdigest()}" != layer.diff_id:
        raise ConvertError(
            "NNA1422", "a layer is not what the image says", cause=f"its tar is sha256:{hashed.hexdigest()}",
            seen=(f"the configuration says {layer.diff_id}",),
        )  # fmt: skip


def length(layer: LayerFile) -> int:
    """Bytes of the layer's tar. Raises ConvertError as `checked`, and NNA1404 where something is behind its end."""
    at, behind = 0, False
    for piece in checked(layer):
        if layer.end is not None and at + len(piece) > layer.end:
            behind = behind or bool(piece[max(0, layer.end - at) :].strip(b"\0"))
        at += len(piece)
    if behind:
        raise ConvertError(
            "NNA1404", "a layer is not converted",
            cause="behind the end of its tar there is something, which nydus-image would take for files of the image",
        )  # fmt: skip
    return at


def _plain(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _gunzipped(path: str) -> Iterator[bytes]:
    """Streams of several members too (pigz and Docker's own make such)."""
    stream = zlib.decompressobj(_GZIP)
    try:
        for packed in _plain(path):
            left = packed
            while left:
                if stream.eof:
                    stream = zlib.decompressobj(_GZIP)
                if piece := stream.decompress(left, PIECE):
                    yield piece
                left = stream.unused_data if stream.eof else stream.unconsumed_tail
    except zlib.error as error:
        raise ConvertError("NNA1423", "a layer cannot be decompressed", cause=str(error)) from None
    if not stream.eof:
        raise ConvertError("NNA1423", "a layer cannot be decompressed", cause="it ends in the middle")


def _unzstd(path: str) -> Iterator[bytes]:
    """By the program zstd: Python has it from 3.14 on. Its window is bounded, so that its memory is."""
    with open(path, "rb") as file:
        try:
            feed = Feed(["zstd", "--decompress", "--stdout", "--memory=128MiB", "--quiet"], file.fileno())
        except ProcessError as error:
            raise ConvertError(
                "NNA1423", "a layer cannot be decompressed", cause=error.cause, try_="apt install zstd"
            ) from None
        try:
            while select.select([feed], [], [], _SILENCE_S)[0]:
                piece = feed.read(PIECE)
                if piece == b"":
                    break
                if piece:
                    yield piece
            if feed.wait(_SILENCE_S) != 0:
                raise ConvertError("NNA1423", "a layer cannot be decompressed", cause=f"zstd: {feed.complaint()}")
        finally:
            feed.end()


class _Stream(io.RawIOBase):
    """Pieces as a file that can be read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        view = memoryview(buffer)
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class _Padded:
    """Pieces of a tar of which nothing but the zeros behind its last file may be missing: umoci 0.4.7 (`umoci insert`)
    leaves them out, and Go's archive/tar, by which containerd and Docker read, does not ask for them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.length: int | None = None
        """Without what was put there, once all of it was read."""

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for piece in self._pieces:
            length += len(piece)
            yield piece
        self.length = length
        yield bytes(-length % tarfile.BLOCKSIZE)


class SparseError(tarfile.ReadError):
    """A file of which only the parts with data are in the tar."""


class Entry(tarfile.TarInfo):
    """An entry that costs no more memory than it must, and that no other reader understands differently.

    tarfile reads whole what goes before a header, and a sparse file's list of holes, however long they say that they
    are. It heeds a size of GNU's for a sparse file in any other, and names and sizes in a header for all that follow;
    Go's archive/tar, by which containerd and Docker read, does neither.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """tarfile takes what is no header for the end."""
        try:
            return super().fromtarfile(tar)
        except _NO_HEADER as error:
            raise tarfile.ReadError(f"where a header is to be there is none ({error})") from None

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # its source says that this may be overridden
        if self.type in _BEFORE_ANOTHER and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(self)
        for_all = tar.pax_headers or {}
        if len(for_all) > _MOST_FOR_ALL or not _OF_ONE.isdisjoint(for_all):
            raise tarfile.ReadError("a header for all files names one of them, or says too much")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]  # typeshed does not know it
        if found.issparse() or any(key.startswith("GNU.sparse.") for key in found.pax_headers):
            raise _sparse(found)
        if max(len(found.name), len(found.linkname)) > _LONGEST_NAME:
            raise tarfile.ReadError(f"a name of more than {_LONGEST_NAME} characters")
        return found

    def _proc_gnusparse_10(self, found: tarfile.TarInfo, *_: object) -> None:
        """The list of holes is in the file itself, and as long as the file."""
        raise _sparse(found)


def _sparse(found: tarfile.TarInfo) -> SparseError:
    return SparseError(f"{found.name[:200]!r} is sparse")


def members(layer: LayerFile, *, content: bool = True) -> Iterator[Member]:
    """See ports_convert.Reader."""
    padded = _Padded(unpacked(layer))
    stream, end = io.BufferedReader(_Stream(iter(padded)), PIECE), 0
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2, tarinfo=Entry) as tar:
            for entry in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every entry that it has seen
                end = entry.offset_data + (entry.size if tar.offset > entry.offset_data else 0)
                yield _member(tar, entry, content=content)
            if padded.length is not None and end > padded.length:
                raise tarfile.ReadError("unexpected end of data")
    except SparseError as error:  # nydus-image refuses GNU's own form of it, and takes the others for other files
        raise ConvertError(
            "NNA1404", "a layer is not converted", cause=f"{error}: nydus-image does not read such files"
        ) from None
    except (tarfile.TarError, OverflowError, ValueError, RecursionError) as error:
        raise ConvertError("NNA1406", "a layer's tar cannot be read", cause=str(error)) from None


def _member(tar: tarfile.TarFile, entry: tarfile.TarInfo, *, content: bool) -> Member:
    end = tar.offset
    if entry.islnk():
        return Member(entry.name, None, entry.linkname, end)
    kind = _KINDS.get(entry.type, Kind.FILE)
    xattrs = {
        name.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
        for name, value in entry.pax_headers.items()
        if name.startswith(_XATTR)
    }
    regular = kind is Kind.FILE
    return Member(
        entry.name,
        Node(
            kind, entry.mode & 0o7777, entry.uid, entry.gid, int(entry.mtime // 1),
            entry.size if regular else 0, _content_of(tar, entry) if regular and content else "",
            entry.linkname if kind is Kind.SYMLINK else "",
            (entry.devmajor, entry.devminor) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0), xattrs,
        ),
        end=end,
    )  # fmt: skip


def header_of(path: str, node: Node) -> bytes:
    """The entry of a directory in a layer's tar."""
    entry = tarfile.TarInfo(f"./{path}")
    entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, node.mode, node.mtime
    entry.uid, entry.gid = node.uid, node.gid
    entry.pax_headers = {
        _XATTR + name: value.decode("utf-8", "surrogateescape") for name, value in node.xattrs.items()
    }  # fmt: skip
    return entry.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _content_of(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    hashed = hashlib.sha256()
    file = tar.extractfile(entry)
    assert file is not None
    while piece := file.read(PIECE):
        hashed.update(piece)
    return hashed.hexdigest()


def walked(top: str) -> Iterator[Member]:
    """Every file below a directory, as it is; no link is followed. Raises OSError."""
    seen = dict[tuple[int, int], Node]()
    waiting = [""]
    while waiting:
        path = waiting.pop()
        place = os.path.join(top, path) if path else top
        yield Member(path, _node(place, seen))
        if stat.S_ISDIR(os.lstat(place).st_mode):
            waiting += [os.path.join(path, name) for name in os.listdir(place)]


def _node(place: str, seen: dict[tuple[int, int], Node]) -> Node:
    status = os.lstat(place)
    key = (status.st_dev, status.st_ino)
    if (known := seen.get(key)) is not None:
        return known
    kind = _kind(status.st_mode)
    regular = kind is Kind.FILE
    device = kind in (Kind.CHARACTER, Kind.BLOCK)
    node = Node(
        kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, int(status.st_mtime // 1),
        status.st_size if regular else 0, _hash_of(place) if regular else "",
        os.readlink(place) if kind is Kind.SYMLINK else "",
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0), _xattrs(place),
    )  # fmt: skip
    if kind is not Kind.DIRECTORY and status.st_nlink > 1:
        seen[key] = node
    return node


def _kind(mode: int) -> Kind:
    for test, kind in (
        (stat.S_ISDIR, Kind.DIRECTORY),
        (stat.S_ISLNK, Kind.SYMLINK),
        (stat.S_ISCHR, Kind.CHARACTER),
        (stat.S_ISBLK, Kind.BLOCK),
        (stat.S_ISFIFO, Kind.FIFO),
    ):
        if test(mode):
            return kind
    return Kind.FILE


def _hash_of(place: str) -> str:
    descriptor = os.open(place, READ)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(place: str) -> dict[str, bytes]:
    names = os.listxattr(place, follow_symlinks=False)
    return {name: os.getxattr(place, name, follow_symlinks=False) for name in names}
