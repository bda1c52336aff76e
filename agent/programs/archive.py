"""An archive of upstream's: fetched from a URL or a path, bounded and with its digest; and the programs taken
out of it, the named regular files and nothing else.

No path of the archive is ever made: each program is copied into a file of our own name.
"""

from __future__ import annotations

import gzip
import hashlib
import ipaddress
import posixpath
import re
import signal
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, cast
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from agent.config.forms import is_metadata
from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.programs.lock import ARCHIVE_CAP, Program
from agent.programs.versions import ELF_HEADER, ProgramName, elf_architecture

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


CHECKSUM_SUFFIX = ".sha256sum"
_CHECKSUM_CAP = 1024
"""Bytes: one line has 64 digits and a file's name."""
_CHECKSUM = re.compile(rb"([0-9a-f]{64}) [ *]([A-Za-z0-9._+-]{1,255})\r?\n?")
_CONNECT_S, _SILENCE_S = 10.0, 30.0
_WHOLE_S = 1800.0
"""For an archive of 60 MB: 33 kB/s are enough."""
_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: its bytes and their digest."""

    size: int
    sha256: str


def check_source(source: str) -> None:
    """Raises ProgramsError NNA1101 where nothing can be taken from there. "": each archive's own URL."""
    if _is_url(source):
        if "@" in urlsplit(source).netloc:
            raise ProgramsError("NNA1101", "the source's URL holds a user name", try_="put it into ~/.netrc")
    elif source and not Path(source).is_dir():
        cause = "it is no directory and no URL"
        raise ProgramsError("NNA1101", f"{source} cannot be used as a source", cause=cause)


def place_of(url: str, source: str) -> str:
    """Where an archive is, given its own URL: below a source it lies under its own name."""
    return f"{source.rstrip('/')}/{url.rpartition('/')[2]}" if source else url


def fetch(place: str, into: Path, cap: int, each: Callable[[int], None]) -> Fetched:
    """Copy what is at `place`, a URL or a path, into a new file. `each` is told the bytes that have come.

    No more than a piece beyond `cap` bytes is taken; the size then says that it was longer.
    Raises ProgramsError NNA1111, and OSError where the file cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    with open(into, "xb") as file, _deadline(place):
        for piece in _pieces(place):
            size += len(piece)
            digest.update(piece)
            file.write(piece)
            each(size)
            if size > cap:
                break
    return Fetched(size, digest.hexdigest())


def fetch_checksum(url: str, source: str) -> str:
    """The sha256 that upstream's file beside the archive of this URL names.

    Raises ProgramsError NNA1111, NNA1115.
    """
    place = place_of(url, source) + CHECKSUM_SUFFIX
    content = b""
    with _deadline(place):
        for piece in _pieces(place):
            content += piece
            if len(content) > _CHECKSUM_CAP:
                break
    line = _CHECKSUM.fullmatch(content) if len(content) <= _CHECKSUM_CAP else None
    if line is None:
        raise ProgramsError("NNA1115", f"{place} is no checksum", cause=f"it begins with {content[:60]!r}")
    named, archive = line[2].decode(), url.rpartition("/")[2]
    if named != archive:
        raise ProgramsError("NNA1115", f"{place} is no checksum of {archive}", cause=f"it names {named}")
    return line[1].decode()


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _pieces(place: str) -> Iterator[bytes]:
    return _from_web(place) if _is_url(place) else _from_disk(place)


def _from_web(url: str) -> Iterator[bytes]:
    # Not unpacked on the way: some servers call a .tgz a page that is encoded with gzip.
    headers = {"User-Agent": "nydus-agent", "Accept-Encoding": "identity"}
    try:
        with (
            _Session() as session,
            session.get(url, stream=True, timeout=(_CONNECT_S, _SILENCE_S), headers=headers) as answer,
        ):
            if answer.status_code != 200:
                cause = f"HTTP {answer.status_code}"
                raise ProgramsError("NNA1111", f"{url} is not there for us", cause=cause)
            yield from answer.raw.stream(_CHUNK, decode_content=False)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ProgramsError("NNA1111", f"{url} cannot be fetched", cause=_plainly(error)) from None


class _Guarded:
    """A connection that ends before it asks where it leads to a cloud's metadata, whatever name led there."""

    host: str
    sock: Any

    def connect(self) -> None:
        """Raises ProgramsError NNA1111."""
        super().connect()  # type: ignore[misc]  # that of the connection that this is mixed into
        if is_metadata(ipaddress.ip_address(self.sock.getpeername()[0].partition("%")[0])):
            cause = f"{self.host} is link-local, or of a cloud's metadata service"
            raise ProgramsError("NNA1111", "no archive is fetched from there", cause=cause)


class _Plain(_Guarded, urllib3.connection.HTTPConnection):
    pass


class _Secure(_Guarded, urllib3.connection.HTTPSConnection):
    pass


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


class _Session(requests.Session):
    """Looks at each hop before it is asked. Where the environment names a proxy, that does the asking."""

    def __init__(self) -> None:
        super().__init__()
        for adapter in map(self.get_adapter, ("http://", "https://")):
            pools = {"http": _PlainPool, "https": _SecurePool}
            cast("HTTPAdapter", adapter).poolmanager.pool_classes_by_scheme = pools

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Raises ProgramsError NNA1111 where https is left."""
        target = super().get_redirect_target(resp)
        if (
            target
            and resp.url.startswith("https://")
            and not urljoin(resp.url, target).startswith("https://")
        ):
            raise ProgramsError("NNA1111", "no archive is fetched from there", cause="it leads out of https")
        return target


def _plainly(error: Exception) -> str:
    """Not the error's own text: that holds whole URLs, and those of a redirect may be signed."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate does not verify, or it speaks no TLS"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of the environment does not answer, or refuses"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.HTTPError):
        return "the name has no address, or the connection was refused or broke"
    return type(error).__name__


def _from_disk(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
    except OSError as error:
        cause = error.strerror or str(error)
        raise ProgramsError("NNA1111", f"{path} cannot be read", cause=cause) from None


@contextmanager
def _deadline(place: str) -> Iterator[None]:
    """An end for the whole: a server that sends a byte now and then is never silent. Main thread only."""

    def late(_number: int, _frame: FrameType | None) -> None:
        cause = f"it did not end within {_WHOLE_S:.0f} s"
        raise ProgramsError("NNA1111", f"{place} takes too long", cause=cause)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _WHOLE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
