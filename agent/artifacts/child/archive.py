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
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal


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
    """The artifact as it was seen; what is wanted of it is then in the files. Raises RefusedError."""
    artifact = wanted.artifact
    programs = Programs(artifact, wanted.programs)
    gunzip, tar = Gunzip(limits), Tar(limits, programs)
    digest, received = hashlib.sha256(), 0
    most = artifact.size or limits.archive
    for chunk in chunks:
        received += len(chunk)
        if received > most:
            raise RefusedError(Refusal.TOO_LONG if artifact.size else Refusal.TOO_LARGE, f"more than {most} bytes")
        digest.update(chunk)
        if wanted.copy is not None:
            write(wanted.copy, memoryview(chunk), artifact.archive)
        for unpacked in gunzip.feed(chunk):
            tar.feed(unpacked)
        on_received(received)
    if received < artifact.size:
        raise RefusedError(Refusal.TOO_SHORT, f"{received} bytes, and {artifact.size} are expected")
    if digest.hexdigest() != wanted.sha256:
        refusal = Refusal.DIGEST if artifact.sha256 else Refusal.CHECKSUM_DIGEST
        raise RefusedError(refusal, f"sha256 {digest.hexdigest()}", f"expected {wanted.sha256}")
    gunzip.end()
    tar.end()
    return replace(artifact, size=received, sha256=wanted.sha256, programs=programs.end())
