"""The job: each archive from where it comes, through `archive`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from agent.artifacts import fetching
from agent.artifacts.child import checksum
from agent.artifacts.child.archive import Wanted, take_apart
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Job, Local
from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.refusals import Refusal

_CHUNK = 1 << 20


class Tell(Protocol):
    """Hears how far it is."""

    def progress(self, artifact: str, received: int, total: int, note: str) -> None:
        """Bytes of an archive so far."""


class Archive(Protocol):
    """Where an archive's bytes come from."""

    total: int
    note: str

    def chunks(self) -> Iterator[bytes]:
        """They, in order. Raises RefusedError."""


class FailedError(Exception):
    """The job is over."""

    def __init__(self, artifact: ArtifactName, error: RefusedError) -> None:
        super().__init__(str(error))
        self.artifact, self.error = artifact, error


def run(job: Job, local: Local, files: Sequence[int], tell: Tell) -> tuple[Artifact, ...]:
    """Fetch all artifacts; they are as they were seen. Raises FailedError.

    `files` came with the job: the archives, where they are on this node, then what is to be written.
    """
    sources = files[: len(local.places)]
    outputs = dict(zip(fetching.outputs(job), files[len(sources) :], strict=True))
    found = []
    for number, artifact in enumerate(job.artifacts):
        try:
            if sources:
                told = local.checksums[number] if local.checksums else ""
                archive: Archive = _File(sources[number], *local.places[number])
            else:
                from agent.artifacts.child import remote  # requests and TLS: only where they are needed

                told, archive = remote.opened(job, artifact)
            found.append(_take(job, artifact, outputs, archive, told, tell))
        except RefusedError as error:
            raise FailedError(artifact.name, error) from None
    return tuple(found)


def _take(
    job: Job,
    artifact: Artifact,
    outputs: Mapping[tuple[ArtifactName, str], int],
    archive: Archive,
    told: str,
    tell: Tell,
) -> Artifact:
    digest = checksum.parse(told.encode(), artifact.archive) if job.trust_release_checksum else artifact.sha256
    files = {name: outputs[artifact.name, name] for name in fetching.wanted(job, artifact)}
    wanted = Wanted(artifact, digest, files, outputs[artifact.name, artifact.archive] if job.archives_only else None)

    def on_received(received: int) -> None:
        tell.progress(artifact.name, received, archive.total, archive.note)

    try:
        return take_apart(archive.chunks(), wanted, job.limits, on_received)
    except RefusedError as error:
        raise RefusedError(error.refusal, *error.seen, *filter(None, [archive.note])) from None


class _File:
    """An archive in a file on this node, or in a part of one (a bundle)."""

    note = ""

    def __init__(self, file: int, offset: int, length: int) -> None:
        self._file, self._offset, self.total = file, offset, length

    def chunks(self) -> Iterator[bytes]:
        """Its bytes in order. Raises RefusedError."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise RefusedError(Refusal.NO_FILE, "it is no regular file")
        at, end = self._offset, self._offset + self.total
        while at < end:
            try:
                chunk = os.pread(self._file, min(_CHUNK, end - at), at)
            except OSError as error:
                raise RefusedError(Refusal.NO_FILE, error.strerror or str(error)) from None
            if not chunk:
                return
            at += len(chunk)
            yield chunk
