"""The store on real files: sets appear whole, are switched and pruned, and say what they are."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.artifact_store import DiskStore
from agent.errors import ArtifactError, LockedError
from tests.contract.store.world import ORIGIN, SNAPSHOTTER, STORE, World
from tests.unit.artifacts import NOW, artifact, elf


def test_a_node_without_a_store_has_no_sets_and_that_is_no_error(world: World) -> None:
    store = world.store
    assert (store.sets(), store.current(), store.previous(), store.floor(), store.seen_lock()) == (
        (),
        None,
        None,
        0,
        None,
    )
    assert store.find("a" * 64) is None
    assert not world.place.exists()


def test_what_was_unpacked_is_taken_over_and_runs_from_a_path_that_names_its_bytes(world: World) -> None:
    installed = world.install()
    assert world.store.sets() == (installed,)
    assert world.store.current() == world.store.find(installed.id) == installed
    path = installed.path("nydusd")
    assert path == f"{STORE}/{installed.id}/nydusd"
    assert world.at(path).read_bytes() == world.programs["v2.4.4"]["nydusd"]
    assert os.readlink(world.at(path)) == "programs/nydusd"
    assert os.readlink(world.place / "current") == installed.id
    assert world.store.verify(installed.id) == ()


def test_only_root_can_change_what_was_installed_whatever_the_umask_was(world: World) -> None:
    before = os.umask(0o077)
    try:
        installed = world.install()
    finally:
        os.umask(before)
    modes = {
        path.relative_to(world.place).name: (stat.S_IMODE(path.lstat().st_mode), path.lstat().st_uid)
        for path in [world.place, *world.place.rglob("*")]
        if not path.is_symlink()
    }
    assert modes[installed.id] == modes["programs"] == (0o755, 0)
    assert modes["nydusd"] == modes["nydus-image"] == (0o555, 0)
    assert modes["set.json"] == (0o644, 0)
    assert modes["lock"] == (0o600, 0)
    assert stat.S_IMODE(world.place.stat().st_mode) == 0o755


def test_installing_again_writes_nothing(world: World) -> None:
    installed = world.install()
    before = world.tree()
    for entry in world.staged.rglob("*"):
        if entry.is_file():
            entry.unlink()  # nothing is read there either
    assert world.adopt(world.artifact(), days=9) == installed
    with world.store.lock("install"):
        world.store.switch(installed.id)
    assert world.tree() == before


def test_a_set_of_two_artifacts_takes_the_snapshotters_overlay_helper(world: World) -> None:
    world.programs["v2.4.4"]["nydus-overlayfs"] = elf(b"of nydus")
    helper = elf(b"nydus-overlayfs v0.16.1")
    snapshotter = artifact(
        SNAPSHOTTER,
        "v0.16.1",
        programs={"nydus-overlayfs": helper, "containerd-nydus-grpc": elf(b"containerd-nydus-grpc v0.16.1")},
    )
    world.unpack(world.artifact(), snapshotter)
    installed = world.adopt(snapshotter, world.artifact())
    assert [program.name for program in installed.programs] == [
        "containerd-nydus-grpc", "nydus-image", "nydus-overlayfs", "nydusd",
    ]  # fmt: skip
    assert world.at(f"{installed.directory}/nydus-overlayfs").read_bytes() == helper
    assert world.store.verify(installed.id) == ()


def test_going_back_and_forth_needs_no_download(world: World) -> None:
    old, new = world.install("v2.3.0"), world.install("v2.4.4")
    assert (world.store.current(), world.store.previous()) == (new, old)
    with world.store.lock("rollback"):
        assert world.store.rollback() == old
    assert (world.store.current(), world.store.previous()) == (old, new)
    with world.store.lock("rollback"):
        assert world.store.rollback() == new
    assert (world.store.current(), world.store.previous()) == (new, old)


def test_there_is_nothing_to_go_back_to_after_the_first_installation(world: World) -> None:
    world.install()
    with world.store.lock("rollback"), pytest.raises(ArtifactError) as caught:
        world.store.rollback()
    assert caught.value.code == "NNA1137"


def test_pruning_keeps_what_is_current_what_was_and_what_is_in_use(world: World) -> None:
    sets = [world.install(version, days) for days, version in enumerate(("v2.3.0", "v2.4.4", "v2.5.0"))]
    with world.store.lock("prune"):
        assert world.store.prune(0, frozenset({sets[0].id})) == ()
        assert world.store.prune(3, frozenset()) == ()
        assert world.store.prune(1, frozenset()) == (sets[0].id,)
    assert world.store.sets() == (sets[2], sets[1])
    assert sorted(path.name for path in world.place.iterdir()) == sorted(
        ["current", "previous", "lock", sets[1].id, sets[2].id]
    )


def test_pruning_removes_what_is_no_set_any_more_without_following_links(world: World) -> None:
    installed = world.install()
    kept = world.root / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"x")
    broken = world.place / ("b" * 64)
    (broken / "programs").mkdir(parents=True)
    (broken / "programs" / "link").symlink_to(kept)
    (broken / "link").symlink_to(kept)
    with world.store.lock("prune"):
        assert world.store.prune(2, frozenset()) == (broken.name,)
    assert (kept / "file").read_bytes() == b"x"
    assert world.store.sets() == (installed,)


def test_what_has_come_of_a_download_lies_in_a_directory_of_root_s_and_an_empty_one_goes(world: World) -> None:
    world.install()
    elsewhere = world.root / "elsewhere"
    elsewhere.mkdir()
    (world.place / ".begun").symlink_to(elsewhere)
    with world.store.lock("install"), world.store.begun() as begun:
        assert Path(begun) == world.place / ".begun"
        assert not Path(begun).is_symlink()
    assert not Path(begun).exists()
    with world.store.lock("install"), world.store.begun():
        (Path(begun) / "digest").write_bytes(b"half")
    with world.store.lock("another"):  # which removes what else a run has left
        assert (Path(begun) / "digest").read_bytes() == b"half"
    assert list(elsewhere.iterdir()) == []


def test_what_a_killed_run_has_left_goes_with_the_next_one(world: World) -> None:
    installed = world.install()
    (world.place / ".new-1" / "programs").mkdir(parents=True)
    (world.place / ".new-1" / "programs" / "nydusd").write_bytes(b"half")
    (world.place / ".new-2").symlink_to("current")
    with world.store.lock("list"):
        assert world.store.sets() == (installed,)
    assert [path.name for path in world.place.iterdir() if path.name.startswith(".")] == []
    assert world.store.verify(installed.id) == ()


def test_what_is_unpacked_lies_beside_the_sets_and_is_gone_afterwards(world: World) -> None:
    world.unpack(world.artifact())
    with world.store.lock("install"), world.store.staging(1 << 20) as place:
        assert Path(place).parent == world.place
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
        (world.staged / "nydus").rename(f"{place}/nydus")
        installed = world.store.adopt(place, [world.artifact()], origin=ORIGIN, now=NOW)
    assert sorted(path.name for path in world.place.iterdir()) == sorted(["lock", installed.id])


def test_one_run_at_a_time_changes_the_store(world: World) -> None:
    other = DiskStore(STORE, str(world.root))
    with world.store.lock("install"), pytest.raises(LockedError) as caught, other.lock("prune"):
        pass
    assert caught.value.code == "NNA1139"
    with other.lock("prune"):
        pass
    with pytest.raises(AssertionError):
        other.set_floor(1)


def test_the_floor_and_the_lock_that_was_seen_are_kept(world: World) -> None:
    with world.store.lock("install"):
        world.store.set_floor(2026112701)
        world.store.keep_seen_lock(b"version = 1\n")
        world.store.set_floor(2026112702)
    again = DiskStore(STORE, str(world.root))
    assert (again.floor(), again.seen_lock()) == (2026112702, b"version = 1\n")
    with again.lock("install"):
        again.set_floor(7)
    assert world.store.floor() == 7


def test_the_record_says_what_was_installed_and_from_where(world: World) -> None:
    installed = world.install()
    record = json.loads((world.place / installed.id / "set.json").read_bytes())
    assert record["origin"] == ORIGIN
    assert record["artifacts"][0]["version"] == "v2.4.4"
    assert record["programs"]["nydusd"]["size"] == len(world.programs["v2.4.4"]["nydusd"])
    assert replace(installed, origin=ORIGIN) == installed
