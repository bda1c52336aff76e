"""What callers of a download count on holds for the real one, from a directory, and for the fake one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from agent.adapters.artifact_fetch import SandboxedSource
from agent.artifacts.fetching import Job, Progress, Source, SourceKind
from agent.artifacts.lock import Artifact
from agent.errors import ArtifactError
from agent.ports_fetch import ArtifactSource
from tests.fakes.downloads import FakeDownloads
from tests.fakes.files import FakeFiles
from tests.hostile import tars
from tests.hostile.stage import blank, release
from tests.hostile.stage import pinned as pinned_as
from tests.unit.artifacts import elf

HELD = {"nydusd": elf(b"nydusd"), "nydus-image": elf(b"nydus-image")}
BLANK = blank("https://example.org/v2.4.4/nydus.tgz")


def packed(programs: Mapping[str, bytes]) -> bytes:
    return tars.gz(release(programs))


def pinned(programs: Mapping[str, bytes]) -> Artifact:
    return pinned_as(packed(programs), BLANK.url, programs)


class Stage(Protocol):
    """A source of archives, and a place for programs."""

    source: ArtifactSource
    place: str
    into: str

    def publish(self, programs: Mapping[str, bytes]) -> None:
        """Let the archive hold these."""

    def arrived(self) -> dict[str, bytes]:
        """What is in the place."""


class Real:
    def __init__(self, root: Path) -> None:
        self.source: ArtifactSource = SandboxedSource(booted=False)
        self.place, self.into = str(root / "archives"), str(root / "into")
        for directory in (self.place, self.into):
            Path(directory).mkdir()

    def publish(self, programs: Mapping[str, bytes]) -> None:
        content = packed(programs)
        (Path(self.place) / BLANK.archive).write_bytes(content)
        line = f"{hashlib.sha256(content).hexdigest()}  {BLANK.archive}\n"
        (Path(self.place) / f"{BLANK.archive}.sha256sum").write_text(line)

    def arrived(self) -> dict[str, bytes]:
        top = Path(self.into)
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


class Fake:
    def __init__(self) -> None:
        self.files = FakeFiles()
        self.fake = FakeDownloads(self.files)
        self.source: ArtifactSource = self.fake
        self.place, self.into = "/archives", "/into"

    def publish(self, programs: Mapping[str, bytes]) -> None:
        self.fake.publish(BLANK, programs)

    def arrived(self) -> dict[str, bytes]:
        prefix = f"{self.into}/"
        found = self.files.files.items()
        return {path.removeprefix(prefix): one.content for path, one in found if path.startswith(prefix)}


@pytest.fixture(params=["real", "fake"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    return Real(tmp_path) if request.param == "real" else Fake()


def fetch(stage: Stage, wanted: Artifact, *, trust: bool = False) -> tuple[tuple[Artifact, ...], list[Progress]]:
    told: list[Progress] = []
    job = Job((wanted,), Source(SourceKind.DIRECTORY, stage.place), trust_release_checksum=trust)
    return stage.source.fetch(job, stage.into, told.append, deadline_s=60), told


def test_what_a_lock_pins_arrives_by_name_and_the_answer_is_the_lock_s_entry(stage: Stage) -> None:
    stage.publish(HELD)
    wanted = pinned(HELD)
    seen, told = fetch(stage, wanted)
    assert seen == (wanted,)
    assert stage.arrived() == {f"nydus/{name}": content for name, content in HELD.items()}
    assert told[-1].received == told[-1].total > 0


def test_other_programs_than_the_lock_s_are_an_error(stage: Stage) -> None:
    stage.publish({**HELD, "nydusd": elf(b"evil")})
    with pytest.raises(ArtifactError) as error:
        fetch(stage, pinned(HELD))
    assert error.value.code in ("NNA1114", "NNA1115")


def test_an_archive_that_is_not_there_is_an_error(stage: Stage) -> None:
    with pytest.raises(ArtifactError):
        fetch(stage, pinned(HELD))


def test_a_trusted_release_is_answered_with_all_that_a_lock_needs(stage: Stage) -> None:
    stage.publish(HELD)
    ((seen,), _told) = fetch(stage, BLANK, trust=True)
    assert (seen.name, seen.version, seen.arch, seen.url) == (BLANK.name, BLANK.version, BLANK.arch, BLANK.url)
    assert seen.size > 0
    assert len(seen.sha256) == 64
    assert {one.name: (one.size, one.sha256) for one in seen.programs} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in HELD.items()
    }
