"""How a blob is sent: in pieces, so that what breaks off goes on and a signal can end it between two of them; whole to
registries that take no pieces.

The specification has both, and large registries know the second one alone, each in its own way: Google's takes no
pieces (artifact-registry/docs/reference/docker-api), GitHub's none of more than 4 MiB (wasmCloud/wash-archive#268),
Amazon's drops all after the first without a word (aws/containers-roadmap#2831). None of that is believed by name: what
the registry answers shows it. Whole is what docker does (moby, distribution/push_v2.go): one PATCH, no Content-Range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from agent.adapters.registry_http import Answer, CutError, RegistryHttp, in_words, refused, said, wait_of
from agent.errors import RegistryError
from agent.ports_convert import Tell

TRIES = 5
"""How often in succession a transfer may break off without having moved on."""
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})", re.ASCII)
_LOST = (400, 404)
"""What registries answer to an upload that they do not know, or whose state has moved on without us."""
_TAKEN = (200, 201, 202, 204)
"""What registries answer to a PATCH that they took: 202 by the specification, 201 from Amazon's."""
_NOT_LET_IN = (401, 403)
_MOST_PIECE = 1 << 30
"""Bytes; a registry whose least piece is larger gets blobs whole."""
_OCTETS = "application/octet-stream"


class PiecesError(Exception):
    """The registry does not take pieces, or says nothing of them that can be believed."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that the registry has begun."""

    url: str
    least: str
    """The shortest piece that it takes, as it says ("OCI-Chunk-Min-Length"); "" where it says nothing."""


class Part:
    """Bytes of a file as the body of a request. They are read while they are sent, in blocks, each with a deadline of
    its own: what is sent at once has one for all of it (socket.sendall), which a slow line does not keep."""

    def __init__(self, file: BinaryIO, start: int, size: int, tell: Tell = lambda _: None) -> None:
        self._file, self._start, self._size, self._tell = file, start, size, tell
        self._done = 0

    def begin(self) -> Part:
        """From its first byte on: for a request that is sent once more."""
        self._file.seek(self._start)
        self._done = 0
        return self

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:  # what requests knows a body by that is read
        return iter(lambda: self.read(1 << 16), b"")

    def read(self, most: int) -> bytes:
        """Raises OSError where the file has become shorter."""
        piece = self._file.read(min(most, self._size - self._done))
        if not piece and self._done < self._size:
            raise OSError("the file has become shorter")
        self._done += len(piece)
        self._tell(self._done)
        return piece


class Upload:
    """One blob on its way. The registry's word says how far it is, and whether there still is an upload.

    docker-registry does not know one any more of which a piece was cut in the middle: its state is in the URL, and says
    less than came. It may say so late: what was under way when a connection broke can come after it was asked.
    """

    def __init__(self, http: RegistryHttp, begin: Callable[[], Begun], scopes: tuple[str, ...]) -> None:
        self._http, self._begin, self._scopes = http, begin, scopes
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another upload. Raises RegistryError."""
        begun = self._begin()
        self.url, self._least = begun.url, begun.least
        self._broke_off = self.in_pieces = False

    def is_lost(self, status: int) -> bool:
        """Whether an answer means that what is left of a broken upload is of no use."""
        return self._broke_off and status in _LOST

    def send(self, file: BinaryIO, size: int, tell: Tell) -> None:
        """All of the file at once. Raises CutError, RegistryError."""
        if not size:
            return
        answer = self._patch(Part(file, 0, size, tell), {})
        if answer.status not in _TAKEN:
            told = said(answer)
            if answer.status >= 500 or answer.status in (408, 429):
                raise _cut(answer, told)
            raise refused("PATCH", answer, told)

    def send_in_pieces(
        self, file: BinaryIO, size: int, chunk: int, tell: Tell, note: Callable[[str], None]
    ) -> None:  # fmt: skip
        """All of the file. `note` hears each URL of the upload. Raises PiecesError, RegistryError."""
        done = furthest = tries = 0
        while done < size:
            before = done
            self.in_pieces = True
            try:
                done = self._piece(file, done, min(self._length(chunk), size - done))
                cause = ""
            except CutError as error:
                cause, self._broke_off = error.cause, True
                self._http.pause(tries + 1, error.wait_s)
                done = self._reached(size)
            if done > furthest:
                furthest, tries = done, 0
            elif done <= before:  # what is sent a second time, up to where it broke off, is no progress
                tries += 1
            if tries >= TRIES:
                raise again_and_again(cause) if furthest else PiecesError(cause)
            note(self.url)
            tell(done)

    def finish(self, digest: str, content: bytes, arrived: Callable[[], bool]) -> Answer | None:
        """None: there was no answer, and it is there. Raises RegistryError."""
        url = f"{self.url}{'&' if urlsplit(self.url).query else '?'}digest={quote(digest, safe='')}"
        headers = {"Content-Type": _OCTETS, "Content-Length": str(len(content))}
        return self._http.write("PUT", url, self._scopes, headers=headers, body=content, arrived=arrived)

    def _length(self, chunk: int) -> int:
        least = int(self._least) if self._least.isascii() and self._least.isdigit() and len(self._least) < 19 else 0
        if least > _MOST_PIECE:
            raise PiecesError(f"it takes no piece of less than {least} bytes")
        return max(chunk, least)

    def _patch(self, part: Part, headers: Mapping[str, str]) -> Answer:
        """Raises CutError, RegistryError."""
        sent = {"Content-Type": _OCTETS, "Content-Length": str(len(part)), **headers}
        answer = self._http.once("PATCH", self.url, self._scopes, headers=sent, body=part)
        if answer.status in _TAKEN:
            answer.close()
            self._moved(answer)
        return answer

    def _piece(self, file: BinaryIO, at: int, length: int) -> int:
        """How far it is then. Raises CutError, PiecesError, RegistryError."""
        answer = self._patch(Part(file, at, length), {"Content-Range": f"{at}-{at + length - 1}"})
        if answer.status in _TAKEN:
            reached = max(_range(answer, at + length), min(at + length, 1))  # "0-0" is one byte too
            if reached <= at:
                raise PiecesError("it takes a piece and says that it has no more than before")
            return reached
        told = said(answer)
        if answer.status == 416 and (reached := self._reached(at + length)) != at:
            return reached
        if answer.status >= 500 or answer.status in (408, 429) or self.is_lost(answer.status):
            raise _cut(answer, told)
        if answer.status in _NOT_LET_IN:
            raise refused("PATCH", answer, told)
        raise PiecesError(in_words(answer, told))

    def _reached(self, most: int) -> int:
        """How far the registry says that it is. Raises PiecesError, RegistryError."""
        answer = self._http.read("GET", self.url, self._scopes, ok=range(200, 500))
        if answer.status in _TAKEN:
            answer.close()
            self._moved(answer)
            return _range(answer, most)
        told = said(answer)
        if answer.status in _NOT_LET_IN:
            raise refused("GET", answer, told)
        if answer.status not in _LOST:
            raise PiecesError(f"it does not say how far an upload is: {in_words(answer, told)}")
        self.begin_anew()
        return 0

    def _moved(self, answer: Answer) -> None:
        if answer.headers.get("Location"):
            self.url = self._http.place(answer, "the upload")


def again_and_again(cause: str) -> RegistryError:
    """For a blob that does not arrive."""
    return RegistryError("NNA1411", "an upload broke off again and again", cause=cause)


def _range(answer: Answer, most: int) -> int:
    """Bytes that the registry has, by its Range ("0-0" is none: pieces are longer than a byte, all but the last)."""
    found = _RANGE.fullmatch(answer.headers.get("Range", ""))
    if found is None:
        raise PiecesError("it does not say how far an upload is")
    reached = 0 if found[1] == "0" else int(found[1]) + 1
    if reached > most:
        raise PiecesError("it says that it has more than was sent")
    return reached


def _cut(answer: Answer, told: str) -> CutError:
    return CutError(in_words(answer, told), wait_s=wait_of(answer))
