"""One archive from its first byte to its last, in one pass: counted, hashed, unpacked, walked, its programs written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.artifacts.child.gunzip import Gunzip
from agent.artifacts.child.programs import Programs, write
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.child.tar import Tar
from agent.artifacts.fetching import Limits
from agent.artifacts.lock import Artifact, Program
from agent.artifacts.refusals import REASONS, Refusal


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to become of an archive."""

    artifact: Artifact
    """Its size is 0 where it is still to be pinned."""
    sha256: str
    """The digest that it must have: the lock's, or the one that the release names."""
    programs: Mapping[str, int]
    """The files for the programs."""
    copy: int | None = None
    """The file for the archive itself."""


def take_apart(chunks: Iterator[bytes], wanted: Wanted, limits: Limits, on_received: Callable[[int], None]) -> Artifact:
    """The artifact as it was seen; what is wanted of it is then in the files. Raises RefusedError.

    What is wrong within an archive is told only after its last byte: whether it is the lock's archive at all matters
    more, and tells whom not to trust, the source or the lock.
    """
    artifact, reader = wanted.artifact, _Reader(wanted, limits)
    digest, received = hashlib.sha256(), 0
    most = artifact.size or limits.archive
    try:
        for chunk in chunks:
            received += len(chunk)
            if received > most:
                raise RefusedError(Refusal.TOO_LONG if artifact.size else Refusal.TOO_LARGE, f"more than {most} bytes")
            digest.update(chunk)
            reader.feed(chunk)
            on_received(received)
        if received < artifact.size:
            raise RefusedError(Refusal.TOO_SHORT, f"{received} bytes, and {artifact.size} are expected")
    except RefusedError as error:
        raise reader.problem or error from None
    if digest.hexdigest() != wanted.sha256:
        refusal = Refusal.DIGEST if artifact.sha256 else Refusal.CHECKSUM_DIGEST
        raise RefusedError(refusal, f"sha256 {digest.hexdigest()}", f"expected {wanted.sha256}", *reader.moreover())
    return replace(artifact, size=received, sha256=wanted.sha256, programs=reader.end())


class _Reader:
    """Takes the programs out of an archive, until something is wrong with it."""

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self.problem: RefusedError | None = None
        self._wanted = wanted
        self._programs = Programs(wanted.artifact, wanted.programs)
        self._gunzip, self._tar = Gunzip(limits), Tar(limits, self._programs)

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises RefusedError only where they cannot be kept."""
        if self._wanted.copy is not None:
            write(self._wanted.copy, memoryview(chunk), self._wanted.artifact.archive)
        if self.problem is not None:
            return
        try:
            for unpacked in self._gunzip.feed(chunk):
                self._tar.feed(unpacked)
        except RefusedError as error:
            self.problem = error

    def moreover(self) -> tuple[str, ...]:
        """What else was wrong, as evidence."""
        return () if self.problem is None else (REASONS[self.problem.refusal].cause, *self.problem.seen)

    def end(self) -> tuple[Program, ...]:
        """The programs. Raises RefusedError."""
        if self.problem is not None:
            raise self.problem
        self._gunzip.end()
        self._tar.end()
        return self._programs.end()
