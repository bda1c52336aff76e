"""A bundle's bytes follow from its lock: what differs in one byte is refused, and every tar can read one."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import os
import random
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters.artifact_bundle import BundleFiles
from agent.artifacts import bundle
from agent.artifacts.bundle import Bundle, Member
from agent.artifacts.lock import SIZE_CAP, Artifact, ArtifactName, Lock, Program, render
from agent.errors import AgentError, ArtifactError, FileError
from agent.node.facts import Arch


def _content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def _artifact(name: ArtifactName, arch: Arch, size: int) -> Artifact:
    archive = f"{name}-v1.2.3-linux-{arch}.tgz"
    content = _content(archive, size)
    return Artifact(
        name=name,
        version="v1.2.3",
        arch=arch,
        url=f"https://releases.example/{name}/v1.2.3/{archive}",
        size=size,
        sha256=hashlib.sha256(content).hexdigest(),
        programs=(Program(name.main_program, 7, "ab" * 32),),
    )


_MADE = datetime.datetime(2026, 11, 27, 17, 40, tzinfo=datetime.UTC)
ARTIFACTS = (
    _artifact(ArtifactName.NYDUS, Arch.AMD64, 3000),
    _artifact(ArtifactName.NYDUS, Arch.ARM64, 2 * bundle.BLOCK),
    _artifact(ArtifactName.SNAPSHOTTER, Arch.ARM64, 2_500_001),
)
LOCK = Lock(
    serial=2026112701,
    made=_MADE,
    expires=_MADE + datetime.timedelta(days=365),
    minimum_agent="0.1.0",
    artifacts=ARTIFACTS,
)


def fill(place: Path) -> None:
    """A directory of archives as an operator has downloaded them."""
    place.mkdir()
    for artifact in ARTIFACTS:
        (place / artifact.archive).write_bytes(_content(artifact.archive, artifact.size))


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    fill(tmp_path / "archives")
    return tmp_path / "archives"


def _silent(member: Member, done: int) -> None:
    """No progress is shown."""


def _write(path: Path, archives: Path, planned: Bundle) -> bytes:
    BundleFiles("/").write(str(path), planned, str(archives), _silent)
    return path.read_bytes()


def _opened(content: bytes) -> Bundle:
    return bundle.opened(lambda offset, count: content[offset : offset + count], len(content), "b.tar")


def test_what_goes_in_comes_out(archives: Path, tmp_path: Path) -> None:
    planned = bundle.planned(LOCK, ARTIFACTS)
    content = _write(tmp_path / "b.tar", archives, planned)
    read = BundleFiles("/").read(str(tmp_path / "b.tar"))
    assert read == planned
    assert read.lock == LOCK
    for artifact in ARTIFACTS:
        member = read.member(artifact)
        inside = content[member.offset : member.offset + artifact.size]
        assert hashlib.sha256(inside).hexdigest() == artifact.sha256


def test_every_tar_can_read_one(archives: Path, tmp_path: Path) -> None:
    content = _write(tmp_path / "b.tar", archives, bundle.planned(LOCK, ARTIFACTS))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [
            bundle.LOCK_MEMBER,
            *(artifact.archive for artifact in ARTIFACTS),
        ]
        assert {(member.isreg(), member.mode, member.uid, member.gid) for member in members} == {(True, 0o644, 0, 0)}
        first = tar.extractfile(members[0])
        assert first is not None
        assert first.read() == render(LOCK)


def test_a_node_gets_only_the_archives_of_its_architecture(archives: Path, tmp_path: Path) -> None:
    planned = bundle.planned(LOCK, [artifact for artifact in ARTIFACTS if artifact.arch is Arch.AMD64])
    read = _opened(_write(tmp_path / "b.tar", archives, planned))
    assert read.lock == dataclasses.replace(LOCK, artifacts=ARTIFACTS[:1])
    with pytest.raises(ArtifactError, match=r"does not hold nydus v1.2.3 \(arm64\)"):
        read.member(ARTIFACTS[1])


def test_a_bundle_for_an_architecture_that_the_lock_does_not_have_is_refused() -> None:
    assert bundle.for_architectures(LOCK, [Arch.ARM64]) == ARTIFACTS[1:]
    assert bundle.for_architectures(LOCK, [Arch.ARM64, Arch.AMD64]) == ARTIFACTS
    with pytest.raises(ArtifactError, match="nothing for amd64"):
        bundle.for_architectures(dataclasses.replace(LOCK, artifacts=ARTIFACTS[1:]), [Arch.ARM64, Arch.AMD64])


def test_two_bundles_of_the_same_lock_are_the_same_bytes(archives: Path, tmp_path: Path) -> None:
    first = _write(tmp_path / "1.tar", archives, bundle.planned(LOCK, ARTIFACTS))
    for artifact in ARTIFACTS:
        os.utime(archives / artifact.archive, (1, 1))
    assert _write(tmp_path / "2.tar", archives, bundle.planned(LOCK, reversed(ARTIFACTS))) == first


def _small() -> bytes:
    """A bundle of one archive, whole."""
    planned = bundle.planned(LOCK, ARTIFACTS[:1])
    content = bytearray(planned.length)
    for offset, frame in planned.frames():
        content[offset : offset + len(frame)] = frame
    member = planned.members[0]
    content[member.offset : member.offset + member.artifact.size] = _content(member.name, member.artifact.size)
    return bytes(content)


def test_a_change_anywhere_but_in_an_archive_is_noticed_and_one_in_an_archive_is_the_digests_to_find() -> None:
    whole = _small()
    member = _opened(whole).members[0]
    archive = range(member.offset, member.offset + member.artifact.size)
    taken = []
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        try:
            other = _opened(bytes(changed))
        except AgentError:
            continue
        # Inside the lock a digit may become another digit: then it is another lock, as its reader sees.
        if place not in archive and other.lock == LOCK:
            taken.append(place)
    assert taken == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda whole: b"", "does not begin as a bundle does"),
        (lambda whole: whole[:100], "does not begin as a bundle does"),
        (lambda whole: whole[:700], "ends within the lock"),
        (lambda whole: whole[:-1], "bytes long"),
        (lambda whole: whole + bytes(bundle.BLOCK), "bytes long"),
        (lambda whole: whole[: -2 * bundle.BLOCK], "bytes long"),
        (lambda whole: b"\x1f\x8b" + whole[2:], "does not begin as a bundle does"),
        (lambda whole: bundle.header("other.toml", 20) + whole[512:], "does not begin as a bundle does"),
        (lambda whole: bundle.header(bundle.LOCK_MEMBER, SIZE_CAP + 1) + whole[512:], "does not begin"),
        (lambda whole: whole.replace(b"nydus-v1.2.3-linux-amd64.tgz\0", b"../../../../../../etc/passwd\0"), "at byte"),
        (lambda whole: whole[:-1] + b"x", "at byte"),
    ],
)
def test_what_is_no_bundle_of_ours_is_refused_with_the_reason(change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        _opened(change(_small()))


def test_links_devices_and_long_names_have_no_place_in_one() -> None:
    """Every other kind of member differs from the header that must stand there."""
    whole = _small()
    member = _opened(whole).members[0]
    at = member.offset - bundle.BLOCK
    for kind in b"1234567xgLKSMV":
        block = bytearray(whole[at : member.offset])
        block[156] = kind
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        with pytest.raises(ArtifactError, match=f"byte {at} "):
            _opened(whole[:at] + bytes(block) + whole[member.offset :])


@pytest.mark.parametrize("name", ["artifacts.lock.toml", "a" * 100])
def test_an_archive_that_cannot_have_its_name_in_a_bundle_is_refused(name: str) -> None:
    artifact = dataclasses.replace(ARTIFACTS[0], url=f"https://releases.example/{name}")
    with pytest.raises(ArtifactError, match="cannot be called"):
        bundle.planned(dataclasses.replace(LOCK, artifacts=(artifact,)), [artifact])


def test_two_archives_of_one_name_are_refused() -> None:
    twin = dataclasses.replace(ARTIFACTS[0], url="https://mirror.example/" + ARTIFACTS[1].archive)
    both = (twin, ARTIFACTS[1])
    with pytest.raises(ArtifactError, match="cannot be called"):
        bundle.planned(dataclasses.replace(LOCK, artifacts=both), both)


def test_a_bundle_of_nothing_is_refused() -> None:
    with pytest.raises(ArtifactError, match="a bundle of nothing"):
        bundle.planned(LOCK, [])


@pytest.mark.parametrize("how", ["other bytes", "shorter", "longer", "missing", "link", "directory"])
def test_an_archive_that_is_not_the_locks_leaves_the_bundle_before_as_it_was(
    how: str, archives: Path, tmp_path: Path
) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(b"the one before")
    archive = archives / ARTIFACTS[2].archive
    good = archive.read_bytes()
    archive.unlink()
    if how == "other bytes":
        archive.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif how == "shorter":
        archive.write_bytes(good[:-1])
    elif how == "longer":
        archive.write_bytes(good + b"x")
    elif how == "link":
        (tmp_path / "elsewhere").write_bytes(good)
        archive.symlink_to(tmp_path / "nowhere")
    elif how == "directory":
        archive.mkdir()
    with pytest.raises(AgentError, match=archive.name):
        _write(path, archives, bundle.planned(LOCK, ARTIFACTS))
    assert path.read_bytes() == b"the one before"
    assert sorted(item.name for item in tmp_path.iterdir() if item.name.startswith(".")) == []


def test_a_bundle_that_does_not_fit_is_told_as_such_and_not_as_an_archive_that_cannot_be_read(
    archives: Path, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(FileError, match=r"cannot write .*/b\.tar") as caught:
            _write(tmp_path / "b.tar", archives, bundle.planned(LOCK, ARTIFACTS))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.cause == "File too large"
    assert [item.name for item in tmp_path.iterdir()] == ["archives"]


def test_what_a_killed_run_has_left_goes_with_the_next_one(archives: Path, tmp_path: Path) -> None:
    (tmp_path / ".b.tar.0123456789abcdef.nna-tmp").write_bytes(b"half")
    _write(tmp_path / "b.tar", archives, bundle.planned(LOCK, ARTIFACTS))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["archives", "b.tar"]


def test_progress_reaches_the_size_of_each_archive(archives: Path, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}
    BundleFiles("/").write(
        str(tmp_path / "b.tar"), bundle.planned(LOCK, ARTIFACTS), str(archives),
        lambda member, done: seen.setdefault(member.name, []).append(done),
    )  # fmt: skip
    assert {name: max(steps) for name, steps in seen.items()} == {
        artifact.archive: artifact.size for artifact in ARTIFACTS
    }
    assert all(steps == sorted(steps) for steps in seen.values())
