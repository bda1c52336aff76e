"""The port through which archives are fetched, checked and taken apart: never by root itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.artifacts.fetching import Job, Progress
from agent.artifacts.lock import Artifact


class ArtifactSource(Protocol):
    """Fetches in a process of its own, without rights, that can write to nothing but the files it is handed."""

    def fetch(
        self, job: Job, into: str, on_progress: Callable[[Progress], None], *, deadline_s: float, begun: str = ""
    ) -> tuple[Artifact, ...]:
        """Fetch all of the job's artifacts; says what was seen: the job's own, or (`trust_release_checksum`) with the
        sizes, digests and programs that the lock is to have from now on.

        The programs are then INTO/ARTIFACT NAME/PROGRAM, for `ArtifactStore.adopt` to take over; their content is the
        child's and is still to be hashed. With `archives_only` there are INTO/ARCHIVE instead. `into` is a directory of
        root's, there and without any of that, on the file system where they will stay (its room is what counts).
        `begun` is a directory of root's that outlives this run: what has come of pinned archives stays there where the
        way to them failed or this process was killed, and a later run goes on behind it. It is no more to be trusted
        than what a server sends, and is treated alike: the digest of the whole archive decides.
        The child has ended when this returns or raises; it never takes longer than `deadline_s` and a few seconds.
        Raises ArtifactError (NNA1111 to NNA1124) with the reason; what lies in `into` then is of no use.
        `on_progress` is called in the caller's thread, some times a second at most.
        """
