"""Packages by the real dpkg-deb: what is in them, that they can be made again, and what is refused before
that.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.ports import Processes
from agent.programs import package
from agent.programs.lock import Release
from agent.programs.versions import Project
from agent.system.process import ChildProcesses
from tests.contract.server import answering, serving
from tests.fakes import tars
from tests.fakes.processes import FakeProcesses
from tests.fakes.programs import NYDUS, SNAPSHOTTER, contents
from tests.node import upstream

REAL = ChildProcesses()
HELD = contents(NYDUS, "2.4.4")


def dpkg_deb(*arguments: str | Path) -> str:
    argv = ["dpkg-deb", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


class Place:
    """Archives in one directory, packages in another."""

    def __init__(self, tmp_path: Path) -> None:
        self.archives, self.packages, self.tree = (
            tmp_path / name for name in ("archives", "packages", "tree")
        )
        self.packages.mkdir()

    def release(
        self,
        project: Project = NYDUS,
        version: str = "2.4.4",
        arch: Arch = Arch.AMD64,
        programs: Mapping[str, bytes] | None = None,
    ) -> Release:
        held = contents(project, version, arch) if programs is None else programs
        return upstream.packed(project, held, version, arch).lay(self.archives)

    def make(self, release: Release, source: str = "", processes: Processes = REAL) -> Path:
        made = package.make(release, source or str(self.archives), self.packages, processes, lambda _: None)
        assert made.path == self.packages / package.file_name(release)
        assert os.listdir(self.packages) == [made.path.name]
        return made.path

    def refused(self, release: Release, source: str = "", processes: Processes = REAL) -> ProgramsError:
        with pytest.raises(ProgramsError) as error:
            self.make(release, source, processes)
        assert os.listdir(self.packages) == [], "nothing is left behind"
        return error.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_package_has_the_programs_and_nothing_else_of_the_archive(place: Place) -> None:
    made = place.make(place.release(programs={**HELD, "nydusctl": b"other"}))
    assert made.name == "nydus-programs-2.4.4_2.4.4_amd64.deb"
    assert made.stat().st_mode & 0o777 == 0o644
    dpkg_deb("--extract", made, place.tree)
    there = {str(path.relative_to(place.tree)) for path in place.tree.rglob("*") if path.is_file()}
    directory = "usr/lib/nydus-agent/programs/nydus-2.4.4"
    copyright_ = "usr/share/doc/nydus-programs-2.4.4/copyright"
    assert there == {f"{directory}/nydusd", f"{directory}/nydus-image", copyright_}
    for name, content in HELD.items():
        assert (place.tree / directory / name).read_bytes() == content


def test_what_dpkg_is_told_is_what_it_wants_to_know(place: Place) -> None:
    made = place.make(place.release(SNAPSHOTTER, "0.16.1", Arch.ARM64))
    fields = {
        name: dpkg_deb("--field", made, name).strip() for name in ("Package", "Version", "Architecture")
    }
    assert fields == {
        "Package": "nydus-snapshotter-programs-0.16.1", "Version": "0.16.1", "Architecture": "arm64",
    }  # fmt: skip
    listed = [line.split() for line in dpkg_deb("--contents", made).splitlines()]
    assert {line[1] for line in listed} == {"root/root"}
    assert {line[3] for line in listed} == {"2026-11-01"}
    modes = {line[0] for line in listed}
    assert modes == {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"}
    assert [line[5] for line in listed if line[0] == "-rwxr-xr-x"] == [
        "./usr/lib/nydus-agent/programs/nydus-snapshotter-0.16.1/containerd-nydus-grpc"
    ]


def test_dpkg_can_verify_it_and_its_script_is_sound(place: Place) -> None:
    made = place.make(place.release())
    dpkg_deb("--raw-extract", made, place.tree)
    subprocess.run(
        ["md5sum", "--check", "DEBIAN/md5sums"], cwd=place.tree, check=True, capture_output=True, timeout=60
    )
    for argument in ("remove", "upgrade"):
        done = subprocess.run(
            ["sh", "-eu", "DEBIAN/prerm", argument],
            cwd=place.tree,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""  # nothing here is set up with it


def test_the_same_lock_gives_the_same_bytes(place: Place) -> None:
    release = place.release()
    first = place.make(release).read_bytes()
    before = os.umask(0o077)
    try:
        assert place.make(release).read_bytes() == first
    finally:
        os.umask(before)
    later = dataclasses.replace(release, source_date_epoch=upstream.EPOCH + 86_400)
    assert place.make(later).read_bytes() != first


def test_a_candidate_is_older_than_its_release_for_dpkg_too(place: Place) -> None:
    made = place.make(place.release(version="2.4.0-rc.1"))
    assert made.name == "nydus-programs-2.4.0-rc.1_2.4.0~rc.1_amd64.deb"
    subprocess.run(["dpkg", "--compare-versions", "2.4.0~rc.1", "lt", "2.4.0"], check=True, timeout=60)


def test_an_archive_comes_from_a_mirror_too(place: Place) -> None:
    release = place.release()
    content = (place.archives / release.url.rpartition("/")[2]).read_bytes()
    with serving(answering("200 OK", content)) as server:
        assert place.make(release, f"{server.url}/nydus").exists()


BOMB = tars.gz(tars.archive(tars.header("nydus-static/nydusd", size=600 << 20)))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its digest is another"),
        (lambda content: BOMB.ljust(len(content), b"\0")[: len(content)], "its digest is another"),
        (lambda content: content + b"\0", "it is longer than"),
        (lambda content: content[:-1], "instead of"),
        (lambda _content: b"", "it has 0 bytes instead of"),
    ],
)
def test_of_an_archive_with_another_digest_not_a_byte_is_parsed(
    place: Place, change: Callable[[bytes], bytes], cause: str
) -> None:
    """What is wrong in it would be told by another code."""
    release = place.release()
    path = place.archives / release.url.rpartition("/")[2]
    path.write_bytes(change(path.read_bytes()))
    error = place.refused(release)
    assert error.code == "NNA1115"
    assert cause in error.cause
    assert error.seen[0] == f"pinned: {release.sha256}"


def test_a_program_that_is_not_the_pinned_one_is_refused(place: Place) -> None:
    release = place.release()
    other = upstream.program("nydusd", HELD["nydus-image"])
    error = place.refused(dataclasses.replace(release, programs=(other, release.programs[1])))
    assert (error.code, error.cause) == ("NNA1115", "nydusd in it is another")


def test_a_pinned_archive_that_is_not_sound_is_refused_all_the_same(place: Place) -> None:
    made = upstream.of_archive(NYDUS, BOMB, HELD, "2.4.4").lay(place.archives)
    assert place.refused(made).code == "NNA1115"
    foreign = upstream.packed(NYDUS, HELD, "2.4.4", Arch.ARM64).lay(place.archives)
    assert "is for amd64, not for arm64" in place.refused(foreign).cause


def failing() -> Iterator[tuple[Processes, str]]:
    yield FakeProcesses(), "there is no dpkg-deb"
    broken = FakeProcesses({"dpkg-deb": "/usr/bin/dpkg-deb"})
    broken.on("env", code=2, stderr="dpkg-deb: error: no space")
    yield broken, "env failed: exit code 2"


@pytest.mark.parametrize(("processes", "cause"), failing())
def test_a_machine_that_cannot_pack_is_told(place: Place, processes: Processes, cause: str) -> None:
    error = place.refused(place.release(), processes=processes)
    assert (error.code, error.cause) == ("NNA1111", cause)


def test_a_directory_that_is_not_there_is_told(place: Place) -> None:
    release = place.release()
    place.packages.rmdir()
    with pytest.raises(ProgramsError) as error:
        package.make(release, str(place.archives), place.packages, REAL, lambda _: None)
    assert error.value.code == "NNA1111"
    assert str(place.packages) in error.value.cause
