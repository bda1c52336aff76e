"""The job: each archive from where it comes, through `archive`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from agent.artifacts import fetching
from agent.artifacts.child import checksum
from agent.artifacts.child.archive import Wanted, take_apart
from agent.artifacts.child.programs import write
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Job, Local
from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.refusals import ON_THE_WAY, REASONS, Refusal

_CHUNK = 1 << 20


class Tell(Protocol):
    """Hears how far it is."""

    def progress(self, artifact: str, received: int, total: int, note: str) -> None:
        """Bytes of an archive so far."""


class Archive(Protocol):
    """Where an archive's bytes come from."""

    total: int

    @property
    def note(self) -> str:
        """Why it comes in another way than it began."""

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
    sources = files[: len(local.places) + len(local.begun)]
    outputs = dict(zip(fetching.outputs(job), files[len(sources) :], strict=True))
    found = []
    for number, artifact in enumerate(job.artifacts):
        try:
            if local.places:
                told = local.checksums[number] if local.checksums else ""
                archive = _File(sources[number], *local.places[number])
                found.append(_take(job, artifact, outputs, archive, told, tell))
            else:
                begun = (sources[number], local.begun[number]) if local.begun else None
                found.append(_bring(job, artifact, outputs, begun, tell))
        except RefusedError as error:
            raise FailedError(artifact.name, error) from None
    return tuple(found)


def _bring(
    job: Job,
    artifact: Artifact,
    outputs: Mapping[tuple[ArtifactName, str], int],
    begun: tuple[int, int] | None,
    tell: Tell,
) -> Artifact:
    """From a server; `begun` is the file that holds the beginning, and how much that is. Raises RefusedError."""
    from agent.artifacts.child import remote  # requests and TLS: only where they are needed

    if begun is None:
        told, archive = remote.opened(job, artifact)
        return _take(job, artifact, outputs, archive, told, tell)
    file, length = begun
    try:
        told, rest = remote.opened(job, artifact, length)
        return _take(job, artifact, outputs, _Begun(file, length, rest), told, tell)
    except RefusedError as error:
        if not length or REASONS[error.refusal].code in ON_THE_WAY:
            raise
    # A power cut may have left anything there, and so may whoever answered then: the whole archive decides.
    for written in (file, *(outputs[key] for key in outputs if key[0] is artifact.name)):
        os.ftruncate(written, 0)
        os.lseek(written, 0, os.SEEK_SET)
    told, rest = remote.opened(job, artifact)
    return _take(job, artifact, outputs, _Begun(file, 0, rest), told, tell)


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


class _Begun:
    """An archive whose first `length` bytes are in a file on this node; what comes is added there, for the next run."""

    def __init__(self, file: int, length: int, rest: Archive) -> None:
        self._file, self._length, self._rest = file, length, rest
        self.total = rest.total

    @property
    def note(self) -> str:
        """Why it comes in another way than others."""
        begun = f"it goes on behind {self._length} bytes of an earlier run" if self._length else ""
        return "; ".join(filter(None, (begun, self._rest.note)))

    def chunks(self) -> Iterator[bytes]:
        """Its bytes in order. Raises RefusedError."""
        yield from _File(self._file, 0, self._length).chunks()
        os.lseek(self._file, self._length, os.SEEK_SET)
        for chunk in self._rest.chunks():
            write(self._file, memoryview(chunk), "what has come of the archive")
            yield chunk
