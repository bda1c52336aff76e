"""The model of a disk that loses power finds what a careless writer would lose, and nothing after a careful
one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.bench.survival.disk import Recording, Tree
from tests.bench.survival.warden import Call

OLD, NEW = b"the old content", b"the new content"
PATH = "/etc/file"
TEMPORARY = "/etc/.file.new"


def recording(tmp_path: Path, *calls: Call) -> Recording:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").write_bytes(OLD)
    found = Recording.of(tmp_path)
    for call in calls:
        found.add(call, call.path, call.second)
    return found


def contents(found: Recording, cut: int | None = None) -> set[object]:
    """What may be in the file after a power cut."""
    trees = found.trees(len(found.ops) if cut is None else cut, random.Random(1))
    return {tree[PATH][1] if PATH in tree else None for tree in trees}


MAKE = Call("openat", TEMPORARY, number=os.O_CREAT | os.O_EXCL | os.O_WRONLY)
WRITE = Call("write", TEMPORARY, data=NEW, position=0)
SYNC = Call("fsync", TEMPORARY)
RENAME = Call("rename", TEMPORARY, PATH)
SYNC_DIRECTORY = Call("fsync", "/etc")


def test_a_rename_without_a_sync_of_the_file_may_leave_it_empty_or_torn(tmp_path: Path) -> None:
    seen = contents(recording(tmp_path, MAKE, WRITE, RENAME))
    assert {OLD, NEW, b"", NEW[: len(NEW) // 2]} <= seen


def test_a_rename_of_a_synced_file_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    found = recording(tmp_path, MAKE, WRITE, SYNC, RENAME)
    assert contents(found) == {OLD, NEW}
    for cut in range(len(found.ops)):
        assert contents(found, cut) <= {OLD, NEW}


def test_only_a_synced_directory_makes_a_rename_last(tmp_path: Path) -> None:
    assert contents(recording(tmp_path, MAKE, WRITE, SYNC, RENAME, SYNC_DIRECTORY)) == {NEW}


def test_a_removal_may_come_back_until_its_directory_is_synced(tmp_path: Path) -> None:
    found = recording(tmp_path, Call("unlink", PATH), SYNC_DIRECTORY)
    assert contents(found, 1) == {OLD, None}
    assert contents(found) == {None}


def test_changes_of_two_directories_reach_the_disk_in_any_order(tmp_path: Path) -> None:
    found = recording(tmp_path, Call("mkdir", "/var", number=0o755), Call("unlink", PATH))

    def seen(tree: Tree) -> tuple[bool, bool]:
        return "/var" in tree, PATH in tree

    trees = {seen(tree) for tree in found.trees(2, random.Random(1))}
    assert trees == {(False, True), (True, True), (False, False), (True, False)}


def test_fdatasync_keeps_the_content_and_not_the_mode(tmp_path: Path) -> None:
    mode = Call("fchmod", PATH, number=0o600)
    for sync, modes in (("fdatasync", {0o644, 0o600}), ("fsync", {0o600})):
        place = tmp_path / sync
        place.mkdir()
        found = recording(place, mode, Call(sync, PATH))
        assert {tree[PATH][2] for tree in found.trees(2, random.Random(1))} == modes


def appended(tmp_path: Path, *more: Call) -> Recording:
    return recording(tmp_path, Call("write", PATH, data=b"one\n"), Call("write", PATH, data=b"two\n"), *more)


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_what_was_appended_may_be_missing_or_full_of_holes_until_it_is_synced(
    tmp_path: Path, sync: str
) -> None:
    seen = contents(appended(tmp_path))
    assert {OLD, OLD + b"one\n", OLD + b"one\ntwo\n", OLD + b"\0\0\0\0two\n"} <= seen
    (tmp_path / sync).mkdir()
    assert contents(appended(tmp_path / sync, Call(sync, PATH))) == {OLD + b"one\ntwo\n"}
