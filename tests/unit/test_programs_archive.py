"""Archives that mean harm: of each the named regular files are taken, or nothing; no path of theirs is ever
made.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.programs import archive
from tests.fakes import tars
from tests.fakes.programs import NYDUS, contents, elf
from tests.node import upstream

HELD = contents(NYDUS, "2.4.4")
NYDUSD = tars.member("nydus-static/nydusd", HELD["nydusd"])
IMAGE = tars.member("nydus-static/nydus-image", HELD["nydus-image"])
MIB = 1 << 20


def take(tmp_path: Path, packed: bytes, arch: Arch = Arch.AMD64) -> dict[str, bytes]:
    """What comes of an archive, by the names of the files that are there afterwards."""
    (tmp_path / "it.tgz").write_bytes(packed)
    into = tmp_path / "into"
    into.mkdir()
    taken = archive.take(tmp_path / "it.tgz", NYDUS.programs, arch, into)
    there = {path.name: path.read_bytes() for path in into.iterdir()}
    assert [upstream.program(one.name, there[one.name]) for one in taken] == list(taken)
    return there


def test_the_named_programs_are_taken_and_nothing_else(tmp_path: Path) -> None:
    around = (
        tars.member("nydus-static/", kind=b"5"),
        tars.member("nydus-static/nydusify", b"#!/bin/sh\n"),
        tars.header("nydus-static/configs", kind=b"2", link="/etc"),
        tars.member("nydus-static/configs/nydusd-config.json", b"{}"),
        tars.header("../../etc/cron.d", kind=b"5"),
        tars.header("nydus-static/null", kind=b"3"),
    )
    assert take(tmp_path, tars.gz(tars.archive(*around, NYDUSD, IMAGE))) == HELD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "it.tgz"]


def test_an_archive_as_upstream_packs_it_is_taken(tmp_path: Path) -> None:
    made = upstream.packed(NYDUS, {**HELD, "nydusctl": b"other"}, "2.4.4")
    assert take(tmp_path, next(iter(made.files.values()))) == HELD


NEGATIVE = tars.member("nydus-static/x", size_field=b"\xff" * 12)
HARMFUL = {
    "a symbolic link": (
        tars.header("a/nydusd", kind=b"2", link="/etc/shadow"),
        "nydusd in it is no regular file",
    ),
    "a hard link": (tars.header("a/nydusd", kind=b"1", link="a/x"), "nydusd in it is no regular file"),
    "a character device": (tars.header("a/nydusd", kind=b"3"), "nydusd in it is no regular file"),
    "a block device": (tars.header("a/nydusd", kind=b"4"), "nydusd in it is no regular file"),
    "a fifo": (tars.header("a/nydusd", kind=b"6"), "nydusd in it is no regular file"),
    "an unknown kind": (
        tars.member("a/nydusd", HELD["nydusd"], kind=b"Z"),
        "nydusd in it is no regular file",
    ),
    "holes, as GNU had them first": (tars.holes("a/nydusd"), "invalid header"),
    "holes, as pax has them": (
        tars.pax(GNU_sparse_map="0,20", GNU_sparse_size="9") + tars.member("a/nydusd", HELD["nydusd"]),
        "nydusd in it is no regular file",
    ),
    "a path out of the archive": (tars.member("../../usr/bin/nydusd", HELD["nydusd"]), "leads out of it"),
    "a path out of it by pax": (
        tars.pax(path="a/../../nydusd") + tars.member("a/b", HELD["nydusd"]),
        "leads out of it",
    ),
    "an absolute path": (tars.member("/usr/bin/nydusd", HELD["nydusd"]), "leads out of it"),
    "a program twice": (NYDUSD + tars.member("other/nydusd", HELD["nydusd"]), "it has nydusd twice"),
    "no program": (tars.member("nydus-static/other", HELD["nydusd"]), "it has no nydusd"),
    "an empty program": (tars.member("a/nydusd", b""), "is for other, not for amd64"),
    "a script": (tars.member("a/nydusd", b"#!/bin/sh\nexit\n"), "nydusd in it is for script, not for amd64"),
    "another architecture": (tars.member("a/nydusd", elf(b"x", Arch.ARM64)), "is for arm64, not for amd64"),
    "more than an archive has": (tars.header("a/big", size=600 * MIB), "it unpacks to more than 512 MiB"),
    "a size below 0": (NEGATIVE + NYDUSD, ""),  # newer versions of tarfile refuse it themselves
    "a header without end": (
        tars.member("PaxHeaders/x", bytes(2 * MIB), kind=b"x"),
        "a header of it is longer",
    ),
    "a name without end": (
        tars.member("././@LongLink", b"x" * (2 * MIB), kind=b"L"),
        "a header of it is longer",
    ),
    "members without end": (tars.header("a/x") * 10_001, "more than 10000 members"),
}


@pytest.mark.parametrize("what", HARMFUL)
def test_what_must_not_be_in_an_archive_is_refused_with_the_reason(tmp_path: Path, what: str) -> None:
    members, reason = HARMFUL[what]
    with pytest.raises(ProgramsError) as error:
        take(tmp_path, tars.gz(tars.archive(members, IMAGE)))
    assert error.value.code == "NNA1115"
    assert error.value.what == "it.tgz cannot be used"
    assert reason in error.value.cause
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "it.tgz"]


SOUND = tars.gz(tars.archive(NYDUSD, IMAGE))


@pytest.mark.parametrize(
    "packed",
    [
        b"", b"no archive at all", tars.archive(NYDUSD, IMAGE), tars.gz(b""), tars.gz(b"x" * 2048),
        SOUND[:20],
        SOUND[: len(SOUND) // 2], tars.gz(tars.archive(NYDUSD, IMAGE)[:700]),
        tars.gz(tars.archive(tars.header("a/nydusd", size=5000), end=b"x" * 100)),
        tars.gz(tars.member("././@LongLink", b"x", kind=b"L") * 5000),
    ],
)  # fmt: skip
def test_a_damaged_archive_is_refused(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(ProgramsError) as error:
        take(tmp_path, packed)
    assert error.value.code == "NNA1115"
    assert error.value.cause
