"""Bring an archive here: from its own URL, from a mirror or out of a directory. Nothing in it is looked at.

`requests` asks, so the environment's proxies and certificates (HTTPS_PROXY, REQUESTS_CA_BUNDLE) and the
passwords of ~/.netrc work as they do everywhere.
"""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from agent.errors import ProgramsError

CHECKSUM_SUFFIX = ".sha256sum"
_CHECKSUM_CAP = 1024
"""Bytes: one line has 64 digits and a file's name."""
_CHECKSUM = re.compile(rb"([0-9a-f]{64}) [ *]([A-Za-z0-9._+-]{1,255})\r?\n?")
_CONNECT_S, _SILENCE_S = 10.0, 30.0
_WHOLE_S = 1800.0
"""For an archive of 60 MB: 33 kB/s are enough."""
_PIECE = 64 << 10


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
        with requests.get(url, stream=True, timeout=(_CONNECT_S, _SILENCE_S), headers=headers) as answer:
            _check_answer(url, answer)
            yield from answer.raw.stream(_PIECE, decode_content=False)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ProgramsError("NNA1111", f"{url} cannot be fetched", cause=_plainly(error)) from None


def _check_answer(url: str, answer: requests.Response) -> None:
    led = [one.url for one in (*answer.history, answer)]
    if url.startswith("https://") and not all(one.startswith("https://") for one in led):
        raise ProgramsError("NNA1111", f"{url} cannot be fetched", cause="it leads out of https")
    if answer.status_code != 200:
        raise ProgramsError("NNA1111", f"{url} is not there for us", cause=f"HTTP {answer.status_code}")


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
            while piece := file.read(_PIECE):
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
