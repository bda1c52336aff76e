"""Archives that are fetched at once, into fake files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.artifacts.fetching import Job, Progress
from agent.artifacts.lock import Artifact, Program
from agent.errors import ArtifactError
from tests.fakes.files import FakeFiles


class FakeDownloads:
    """`archives` holds what is published: an archive's URL, its programs. A lock's digests are held against them."""

    def __init__(self, files: FakeFiles) -> None:
        self._files = files
        self.archives: dict[str, Mapping[str, bytes]] = {}
        self.error: ArtifactError | None = None
        self.jobs: list[Job] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens on the node during a download."""

    def publish(self, artifact: Artifact, programs: Mapping[str, bytes]) -> None:
        """Let the release of this artifact have these programs."""
        self.archives[artifact.url] = programs

    def fetch(
        self, job: Job, into: str, on_progress: Callable[[Progress], None], *, deadline_s: float, begun: str = ""
    ) -> tuple[Artifact, ...]:
        self.jobs.append(job)
        self.meanwhile()
        if self.error is not None:
            raise self.error
        seen = []
        for wanted in job.artifacts:
            programs = self.archives.get(wanted.url)
            if programs is None:
                raise ArtifactError("NNA1112", f"{wanted.url} is not there")
            found = tuple(
                Program(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in programs.items()
            )
            digest = hashlib.sha256(b"".join(programs.values())).hexdigest()
            if not job.trust_release_checksum and found != wanted.programs:
                raise ArtifactError("NNA1115", f"the digest of {wanted} is not what the lock says")
            seen.append(
                replace(wanted, size=1000, sha256=digest, programs=found) if job.trust_release_checksum else wanted
            )
            for name, content in programs.items():
                self._files.put(f"{into}/{wanted.name}/{name}", content)
            on_progress(Progress(str(wanted), 500, 1000, 1e6))
            on_progress(Progress(str(wanted), 1000, 1000, 1e6))
        return tuple(seen)
