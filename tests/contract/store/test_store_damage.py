"""What is wrong with a set or with its store is seen, told, and mended by installing again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ArtifactError
from agent.ports_artifacts import FlawKind
from tests.contract.store.world import (
    NOBODY,
    STORE,
    World,
    change_bytes,
    lay_foreign,
    remount,
    rewrite,
    turn_into_link,
    upgrade_hot,
)
from tests.unit.artifacts import NOW, elf


def test_a_set_that_is_not_there_or_damaged_never_becomes_current(world: World) -> None:
    old, new = world.install("v2.3.0"), world.install("v2.4.4")
    with world.store.lock("switch"), pytest.raises(ArtifactError) as caught:
        world.store.switch("a" * 64)
    assert caught.value.code == "NNA1136"
    change_bytes(world.at(f"{old.directory}/programs/nydusd"))
    acts: tuple[Callable[[], object], ...] = (lambda: world.store.switch(old.id), world.store.rollback)
    for act in acts:
        with world.store.lock("switch"), pytest.raises(ArtifactError) as caught:
            act()
        assert caught.value.code == "NNA1135"
        assert "programs/nydusd" in caught.value.seen[0]
    assert (world.store.current(), world.store.previous()) == (new, old)


def _turn_into_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _writable(file: Path) -> None:
    file.chmod(0o777)


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        (rewrite, {FlawKind.CHANGED}),
        (lambda file: file.write_bytes(b""), {FlawKind.CHANGED}),
        (Path.unlink, {FlawKind.MISSING}),
        (_writable, {FlawKind.RIGHTS}),
        (lambda file: os.chown(file, NOBODY, 0), {FlawKind.RIGHTS}),
        (lambda file: os.link(file, file.parents[2] / "other"), {FlawKind.RIGHTS}),
        (turn_into_link, {FlawKind.RIGHTS, FlawKind.FOREIGN}),
        (lay_foreign, {FlawKind.FOREIGN}),
        (lambda file: (file.parents[1] / "new").mkdir(), {FlawKind.FOREIGN}),
        (upgrade_hot, {FlawKind.REPLACED}),
        (lambda file: (file.parents[1] / "nydusd").unlink(), {FlawKind.MISSING}),
        (lambda file: (file.parents[1] / "set.json").unlink(), {FlawKind.CHANGED}),
        (lambda file: (file.parents[1] / "set.json").write_bytes(b"{}"), {FlawKind.CHANGED}),
        (lambda file: (file.parents[1] / "set.json").write_bytes(b" " * 70_000), {FlawKind.CHANGED}),
        (lambda file: turn_into_link(file.parents[1] / "set.json"), {FlawKind.CHANGED}),
        (lambda file: _turn_into_directory(file.parents[1] / "set.json"), {FlawKind.CHANGED}),
        (lambda file: file.parent.rename(file.parents[2] / "gone"), {FlawKind.MISSING}),
        (lambda file: file.parents[1].chmod(0o777), {FlawKind.RIGHTS}),
    ],
)
def test_damage_is_seen_and_installing_again_mends_it(
    world: World, damage: Callable[[Path], object], kinds: set[FlawKind]
) -> None:
    installed = world.install()
    program = world.at(f"{installed.directory}/programs/nydusd")
    damage(program)
    found = world.store.verify(installed.id)
    assert {flaw.kind for flaw in found} == kinds
    assert all(flaw.path.startswith(installed.directory) for flaw in found)
    world.install()
    assert world.store.verify(installed.id) == ()
    assert world.at(f"{installed.directory}/nydusd").read_bytes() == world.programs["v2.4.4"]["nydusd"]
    current = world.store.current()
    assert current is not None
    assert current.id == installed.id


def test_what_was_only_moved_about_is_mended_without_a_download(world: World) -> None:
    installed = world.install()
    program = world.at(f"{installed.directory}/programs/nydusd")
    upgrade_hot(program)
    lay_foreign(program)
    copy = program.read_bytes()
    program.unlink()
    program.write_bytes(copy)  # a restored backup: the same bytes, another inode and time
    program.chmod(0o555)
    assert world.store.find(installed.id) is None
    with world.store.lock("mend"):
        assert world.store.mend(installed.id) == installed
        assert world.store.mend("a" * 64) is None
    assert world.store.find(installed.id) == installed
    assert world.store.verify(installed.id) == ()
    rewrite(program)
    with world.store.lock("mend"):
        assert world.store.mend(installed.id) is None


@pytest.mark.parametrize("content", [b"", b"7", b'{"serial": "7"}', b'{"serial": -1}', b"{}", b'{"serial": true}'])
def test_a_floor_that_cannot_be_read_is_not_taken_for_none(world: World, content: bytes) -> None:
    world.install()
    (world.place / "floor.json").write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        world.store.floor()
    assert caught.value.code == "NNA1131"
    assert "floor.json" in caught.value.what


@pytest.mark.parametrize("target", ["../../../etc", "/etc", "a" * 64, "lock", ".", "current"])
def test_a_link_that_leads_out_of_the_store_is_no_set(world: World, target: str) -> None:
    world.install()
    (world.place / "current").unlink()
    (world.place / "current").symlink_to(target)
    assert world.store.current() is None
    installed = world.install("v2.5.0")
    assert (world.store.current(), world.store.previous()) == (installed, None)


def _theirs(place: Path) -> None:
    os.chown(place, NOBODY, NOBODY)


@pytest.mark.parametrize("spoil", [_theirs, lambda place: place.chmod(0o777), lambda place: place.chmod(0o1777)])
@pytest.mark.parametrize("where", [STORE, "/var/lib/nydus-agent", "/var"])
def test_a_store_that_others_can_write_to_is_not_used(
    world: World, spoil: Callable[[Path], object], where: str
) -> None:
    installed = world.install()
    spoil(world.at(where))
    acts: tuple[Callable[[], object], ...] = (
        lambda: world.store.find(installed.id),
        lambda: world.store.current(),
        lambda: world.adopt(world.artifact()),
    )
    for act in acts:
        with pytest.raises(ArtifactError) as caught:
            act()
        assert caught.value.code == "NNA1131"
        assert where in caught.value.cause


def test_a_set_that_is_a_link_is_no_set(world: World) -> None:
    installed = world.install()
    elsewhere = world.root / "elsewhere"
    world.at(installed.directory).rename(elsewhere)
    world.at(installed.directory).symlink_to(elsewhere)
    assert world.store.sets() == ()
    assert world.store.find(installed.id) is None
    before = {path: path.lstat().st_ino for path in elsewhere.rglob("*")}
    world.install()
    assert world.store.verify(installed.id) == ()
    assert not world.at(installed.directory).is_symlink()
    assert {path: path.lstat().st_ino for path in elsewhere.rglob("*")} == before


def test_a_disk_without_room_is_told_before_anything_is_written(small_disk: World) -> None:
    small_disk.programs["v2.4.4"] = {"nydusd": elf(b"x" * (5 << 20))}
    small_disk.unpack(small_disk.artifact())
    error = small_disk.refused(small_disk.artifact())
    assert error.code == "NNA1132"
    assert "free" in error.cause
    with small_disk.store.lock("install"), pytest.raises(ArtifactError) as caught, small_disk.store.staging(3 << 20):
        pass  # room for the programs, not for what is unpacked too
    assert caught.value.code == "NNA1132"


def test_a_disk_that_fills_up_meanwhile_leaves_no_trace(small_disk: World) -> None:
    small_disk.programs["v2.4.4"] = {"nydusd": elf(b"x" * (3 << 20))}
    small_disk.install("v2.3.0")
    small_disk.unpack(small_disk.artifact())
    room = os.statvfs(small_disk.place)
    remount(small_disk, f"nr_inodes={room.f_files - room.f_ffree + 3}")  # for two directories and a program
    error = small_disk.refused(small_disk.artifact())
    assert error.code == "NNA1132"
    small_disk.install("v2.3.0")


def test_a_read_only_disk_is_named_as_such(small_disk: World) -> None:
    installed = small_disk.install("v2.3.0")
    small_disk.unpack(small_disk.artifact())
    with small_disk.store.lock("install"):
        remount(small_disk, "ro")
        acts: tuple[Callable[[], object], ...] = (
            lambda: small_disk.store.adopt(str(small_disk.staged), [small_disk.artifact()], origin="", now=NOW),
            lambda: small_disk.store.set_floor(1),
        )
        for act in acts:
            with pytest.raises(ArtifactError) as caught:
                act()
            assert caught.value.code == "NNA1133"
            assert "Read-only" in caught.value.cause
    assert small_disk.store.current() == installed


def test_a_disk_from_which_nothing_may_run_is_refused_with_the_setting_that_helps(small_disk: World) -> None:
    remount(small_disk, "noexec")
    small_disk.unpack(small_disk.artifact())
    error = small_disk.refused(small_disk.artifact())
    assert error.code == "NNA1134"
    assert "noexec" in error.cause
