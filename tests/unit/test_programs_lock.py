"""The lock of programs: what it pins, what is wrong with one, and how releases, packages and paths are
called.
"""

from __future__ import annotations

import dataclasses

import pytest

from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.programs.lock import LOCK_CAP, Lock, Release, merged, parse, render, select
from agent.programs.versions import Project, numbers, order, package_of
from tests.fakes.programs import NYDUS, SNAPSHOTTER, contents
from tests.node import upstream

BOTH = {NYDUS: "2.4.4", SNAPSHOTTER: "0.16.1"}


def release(project: Project = NYDUS, version: str = "2.4.4", arch: Arch = Arch.AMD64) -> Release:
    return upstream.packed(project, contents(project, version, arch), version, arch).release


def lock(*more: Release) -> Lock:
    return Lock((release(), release(arch=Arch.ARM64), release(SNAPSHOTTER, "0.16.1"), *more))


def problems(text: str) -> str:
    with pytest.raises(ProgramsError) as error:
        parse(text.encode(), "my.lock.toml")
    assert error.value.code == "NNA1101"
    return "\n".join(error.value.seen)


def test_what_is_written_is_what_is_read() -> None:
    assert parse(render(lock()), "x") == lock()
    assert parse(render(Lock()), "x") == Lock()


def test_a_lock_is_read_by_people_too() -> None:
    text = render(Lock((release(),))).decode()
    one = release()
    assert text.startswith(
        'version = 1\n\n[[release]]\nproject = "nydus"\nversion = "2.4.4"\narch = "amd64"\n'
    )
    assert f'name = "nydusd"\nsize = {one.programs[0].size}\nsha256 = "{one.programs[0].sha256}"\n' in text


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("version = 1\n", "version = 2\n", "is a format that is not known here"),
        ('project = "nydus"', 'project = "nidus"', 'did you mean "nydus"?'),
        ('version = "2.4.4"', 'version = "2.4"', "is not a version"),
        ('version = "2.4.4"', 'version = "2.4.4/../x"', "is not a version"),
        ('arch = "amd64"', 'arch = "script"', 'write "amd64" or "arm64"'),
        ("https://github.com", "ftp://github.com", "is not the URL of an archive"),
        ("https://github.com", "https://me:secret@github.com", "is not the URL of an archive"),
        ("source_date_epoch = 1793491200", "source_date_epoch = -1", "is out of range"),
        ('name = "nydus-image"', 'name = "nydusd"', "name nydusd, nydus-image, each once"),
        ('name = "nydus-image"', 'name = "../nydusd"', "is not one of the choices"),
        ("version = 1\n", "version = 1\nserial = 3\n", "unknown key"),
    ],
)
def test_a_value_that_cannot_be_is_named(old: str, new: str, problem: str) -> None:
    text = render(Lock((release(),))).decode()
    assert old in text
    assert problem in problems(text.replace(old, new, 1))


def test_what_is_missing_and_what_is_there_twice_is_named() -> None:
    text = render(Lock((release(), release()))).decode()
    assert "is there already, as release[0]" in problems(text)
    lines = text.splitlines()
    without = "\n".join(line for line in lines if not line.startswith(("url", "size")))
    # Url and size, of two releases; size of four programs, once each.
    assert problems(without).count("is missing") == 8


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\xff\xfe", "can't decode"),
        (b"a = ", "Invalid value"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"#" * (LOCK_CAP + 1), "longer than 1 MiB"),
    ],
)
def test_what_is_no_toml_is_no_lock(content: bytes, cause: str) -> None:
    with pytest.raises(ProgramsError, match=cause) as error:
        parse(content, "my.lock.toml")
    assert error.value.code == "NNA1101"


def test_what_was_pinned_stays_and_what_is_new_is_added() -> None:
    before = Lock((release(),))
    later = dataclasses.replace(release(), source_date_epoch=upstream.EPOCH + 1)
    both = merged(before, [later, release(version="2.4.10"), release(version="2.4.9")], "x")
    assert [str(one) for one in both.release] == [
        "nydus 2.4.4 (amd64)",
        "nydus 2.4.9 (amd64)",
        "nydus 2.4.10 (amd64)",
    ]
    assert both.release[0] == release()


def test_a_release_that_has_other_bytes_now_is_refused() -> None:
    other = upstream.packed(NYDUS, contents(NYDUS, "evil"), "2.4.4").release
    with pytest.raises(ProgramsError) as error:
        merged(lock(), [other], "my.lock.toml")
    assert (error.value.code, error.value.cause) == ("NNA1115", "my.lock.toml pins other bytes")
    assert error.value.seen == (f"pinned: {release().sha256}", f"now: {other.sha256}")


def test_of_a_lock_all_is_taken_or_what_is_named() -> None:
    held = lock(release(version="2.4.3"))
    assert select(held, {}, []) == held.release
    assert [str(one) for one in select(held, BOTH, [Arch.AMD64])] == [
        "nydus 2.4.4 (amd64)",
        "nydus-snapshotter 0.16.1 (amd64)",
    ]
    assert [str(one) for one in select(held, {}, [Arch.ARM64])] == ["nydus 2.4.4 (arm64)"]


@pytest.mark.parametrize(
    ("versions", "arches", "what"),
    [
        ({NYDUS: "2.4.5"}, [], "the lock pins no nydus 2.4.5"),
        (BOTH, [Arch.ARM64], "the lock pins no nydus-snapshotter 0.16.1 for arm64"),
        (
            {NYDUS: "9.9.9", SNAPSHOTTER: "9.9.9"},
            [],
            "the lock pins no nydus 9.9.9 and nydus-snapshotter 9.9.9",
        ),
    ],
)
def test_what_the_lock_does_not_pin_is_named(
    versions: dict[Project, str], arches: list[Arch], what: str
) -> None:
    with pytest.raises(ProgramsError) as error:
        select(lock(), versions, arches)
    assert (error.value.code, error.value.what) == ("NNA1101", what)
    assert len(error.value.seen) == 3


def test_an_empty_lock_has_nothing_to_take() -> None:
    with pytest.raises(ProgramsError, match="the lock pins no release: it is empty"):
        select(Lock(), {}, [])


def test_versions_are_ordered_by_their_numbers() -> None:
    versions = ["2.4.10", "2.4.9", "2.4.10-rc.10", "2.4.10-rc.9", "2.10.0", "0.16.1"]
    assert sorted(versions, key=order) == [
        "0.16.1",
        "2.4.9",
        "2.4.10-rc.9",
        "2.4.10-rc.10",
        "2.4.10",
        "2.10.0",
    ]
    assert numbers("2.4.10-rc.9") == (2, 4, 10)


def test_a_program_s_path_tells_its_package() -> None:
    assert package_of(f"{NYDUS.directory('2.4.4')}/nydusd") == "nydus-programs-2.4.4"
    assert (
        package_of(f"{SNAPSHOTTER.directory('0.16.1')}/containerd-nydus-grpc")
        == "nydus-snapshotter-programs-0.16.1"
    )
    for path in ("/usr/bin/nydusd", "/usr/lib/nydus-agent/programs/other/nydusd", "nydus-2.4.4/nydusd"):
        assert package_of(path) == ""


def test_the_urls_are_upstream_s() -> None:
    assert NYDUS.url("2.4.4", Arch.ARM64) == (
        "https://github.com/dragonflyoss/nydus/releases/download/v2.4.4/nydus-static-v2.4.4-linux-arm64.tgz"
    )
    assert SNAPSHOTTER.url("0.16.1", Arch.AMD64) == (
        "https://github.com/containerd/nydus-snapshotter/releases/download/v0.16.1/"
        "nydus-snapshotter-v0.16.1-linux-amd64.tar.gz"
    )
