"""The download's own process, from files on this node: what it brings, and how it ends. (Servers: tests/hostile.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.adapters.artifact_fetch import SandboxedSource
from agent.artifacts.fetching import Job, Progress, Source, SourceKind
from agent.errors import ArtifactError
from tests.hostile import stage, tars
from tests.unit.artifacts import elf

NYDUSD, IMAGE = elf(os.urandom(300_000)), elf(b"nydus-image")
ARCHIVE = tars.gz(tars.archive(
    tars.member("nydus-static/", kind=b"5"), tars.member("nydus-static/nydusd", NYDUSD),
    tars.member("nydus-static/configs/nydusd-config.json", b"{}"), tars.member("./nydus-static/nydus-image", IMAGE),
))  # fmt: skip
BLANK = stage.blank("https://example.org/v2.4.4/nydus.tgz")
PINNED = stage.pinned(ARCHIVE, BLANK.url, {"nydusd": NYDUSD, "nydus-image": IMAGE})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Archives as an operator would put them there."""
    place = tmp_path / "archives"
    place.mkdir()
    (place / PINNED.archive).write_bytes(ARCHIVE)
    (place / f"{PINNED.archive}.sha256sum").write_text(f"{PINNED.sha256}  {PINNED.archive}\n")
    (tmp_path / "into").mkdir()
    return place


def _files(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_the_programs_of_the_lock_arrive_and_nothing_else_of_the_archive(directory: Path) -> None:
    into, heard = directory.parent / "into", list[Progress]()
    job = Job((PINNED,), Source(SourceKind.DIRECTORY, str(directory)))
    assert SandboxedSource(booted=False).fetch(job, str(into), heard.append, deadline_s=20) == (PINNED,)
    assert _files(into) == {"nydus/nydusd": NYDUSD, "nydus/nydus-image": IMAGE}
    assert (heard[-1].received, heard[-1].total) == (len(ARCHIVE), len(ARCHIVE))


def test_what_only_the_releases_checksum_vouches_for_can_be_pinned_from_then_on(directory: Path) -> None:
    into = directory.parent / "into"
    job = Job((BLANK,), Source(SourceKind.DIRECTORY, str(directory)), trust_release_checksum=True, archives_only=True)
    assert SandboxedSource(booted=False).fetch(job, str(into), lambda _: None, deadline_s=20) == (PINNED,)
    assert _files(into) == {PINNED.archive: ARCHIVE}


def test_no_process_remains_of_a_download_that_takes_too_long(directory: Path) -> None:
    (directory / PINNED.archive).write_bytes(bytes(100))
    job = Job((PINNED,), Source(SourceKind.DIRECTORY, str(directory)))
    with pytest.raises(ArtifactError, match="not done in its time"):
        # Less than the child's interpreter needs to start: on a quiet machine it was done in 50 ms.
        SandboxedSource(booted=False).fetch(job, str(directory.parent / "into"), lambda _: None, deadline_s=0.002)
    assert stage.children() == {}
