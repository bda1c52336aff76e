"""One contract for the store on the disk and for the fake one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from agent.adapters.artifact_store import DiskStore
from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.sets import InstalledSet
from agent.errors import ArtifactError, LockedError
from agent.ports_artifacts import ArtifactStore, FlawKind
from tests.fakes.files import FakeFiles
from tests.fakes.store import FakeStore
from tests.unit.artifacts import NOW, artifact, elf

DIRECTORY = "/store"


class Stage(Protocol):
    """A store, and the hands of others."""

    store: ArtifactStore

    def put(self, path: str, content: bytes) -> None:
        """Write a file, as a download or somebody else does."""

    def get(self, path: str) -> bytes | None:
        """Its content."""


class OnDisk:
    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.root = root
        self.store: ArtifactStore = DiskStore(DIRECTORY, str(root))

    def put(self, path: str, content: bytes) -> None:
        # Staging directories are named as they are on this machine, what is in a set as on the node.
        place = Path(path) if path.startswith(str(self.root)) else self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_bytes(content)
        place.chmod(0o555)

    def get(self, path: str) -> bytes | None:
        place = self.root / path.lstrip("/")
        return place.read_bytes() if place.exists() else None


class InMemory:
    def __init__(self) -> None:
        self.files = FakeFiles()
        self.store: ArtifactStore = FakeStore(DIRECTORY, self.files)

    def put(self, path: str, content: bytes) -> None:
        self.files.put(path, content)

    def get(self, path: str) -> bytes | None:
        one = self.files.files.get(path)
        return one.content if one is not None else None


@pytest.fixture(params=["disk", "fake"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    return OnDisk(tmp_path) if request.param == "disk" else InMemory()


def adopt(stage: Stage, version: str = "v2.4.4", *, content: bytes = b"") -> InstalledSet:
    """A set of this version of nydusd."""
    program = content or elf(version.encode())
    wanted: Artifact = artifact(ArtifactName.NYDUS, version, programs={"nydusd": elf(version.encode())})
    with stage.store.lock("test"), stage.store.staging() as staged:
        stage.put(f"{staged}/nydus/nydusd", program)
        return stage.store.adopt(staged, [wanted], origin="https://example.org", now=NOW)


def switch(stage: Stage, one: InstalledSet) -> None:
    with stage.store.lock("test"):
        stage.store.switch(one.id)


def test_a_store_that_is_not_there_is_empty(stage: Stage) -> None:
    store = stage.store
    assert (store.sets(), store.current(), store.previous(), store.floor(), store.seen_lock()) == (
        (),
        None,
        None,
        0,
        None,
    )
    assert store.find("a" * 64) is None


def test_what_is_taken_over_is_found_and_not_current(stage: Stage) -> None:
    one = adopt(stage)
    found = stage.store.find(one.id)
    assert found is not None
    assert (found.id, found.path("nydusd")) == (one.id, f"{DIRECTORY}/{one.id}/nydusd")
    assert found.version(ArtifactName.NYDUS) == "v2.4.4"
    assert [each.id for each in stage.store.sets()] == [one.id]
    assert stage.store.current() is None
    assert stage.store.verify(one.id) == ()


def test_other_bytes_than_the_lock_s_are_not_taken_over(stage: Stage) -> None:
    with pytest.raises(ArtifactError) as error:
        adopt(stage, content=elf(b"v9.9.9"))
    assert error.value.code == "NNA1115"
    assert stage.store.sets() == ()


def test_the_one_before_is_kept_as_previous_and_can_come_back(stage: Stage) -> None:
    one, two = adopt(stage), adopt(stage, "v2.4.5")
    for each in (one, two, two):
        switch(stage, each)
    current, previous = stage.store.current(), stage.store.previous()
    assert current is not None
    assert previous is not None
    assert (current.id, previous.id) == (two.id, one.id)
    with stage.store.lock("test"):
        assert stage.store.rollback().id == one.id
    current, previous = stage.store.current(), stage.store.previous()
    assert current is not None
    assert previous is not None
    assert (current.id, previous.id) == (one.id, two.id)


def test_a_set_that_failed_is_not_what_one_goes_back_to(stage: Stage) -> None:
    one, two = adopt(stage), adopt(stage, "v2.4.5")
    for each in (one, two):
        switch(stage, each)
    with stage.store.lock("test"):
        stage.store.switch(one.id, forget=True)
    current = stage.store.current()
    assert current is not None
    assert current.id == one.id
    assert stage.store.previous() is None


def test_without_a_previous_set_nothing_goes_back(stage: Stage) -> None:
    switch(stage, adopt(stage))
    with pytest.raises(ArtifactError) as error, stage.store.lock("test"):
        stage.store.rollback()
    assert error.value.code == "NNA1137"


def test_a_set_that_is_not_there_does_not_become_current(stage: Stage) -> None:
    adopt(stage)
    for act in (stage.store.switch, stage.store.verify):
        with pytest.raises(ArtifactError) as error, stage.store.lock("test"):
            act("a" * 64)
        assert error.value.code == "NNA1136"


def test_a_program_that_was_changed_is_noticed(stage: Stage) -> None:
    one = adopt(stage)
    path = f"{DIRECTORY}/{one.id}/{'programs/' if isinstance(stage, OnDisk) else ''}nydusd"
    stage.put(path, elf(b"v2.4.9"))
    assert stage.store.find(one.id) is None
    assert [flaw.kind for flaw in stage.store.verify(one.id)] == [FlawKind.CHANGED]
    with stage.store.lock("test"):
        assert stage.store.mend(one.id) is None


def test_only_what_nobody_needs_goes(stage: Stage) -> None:
    made = [adopt(stage, f"v2.4.{number}") for number in range(5)]
    switch(stage, made[0])
    would = stage.store.prunable(1, frozenset({made[1].id}))
    with stage.store.lock("test"):
        gone = stage.store.prune(1, frozenset({made[1].id}))
    assert gone == would
    left = {one.id for one in stage.store.sets()}
    assert {made[0].id, made[1].id} < left
    assert set(gone) | left == {one.id for one in made}
    assert len(left) == 3


def test_a_set_that_does_not_say_what_it_is_goes_however_many_are_kept(stage: Stage) -> None:
    made = [adopt(stage, f"v2.4.{number}") for number in range(3)]
    stage.put(f"{DIRECTORY}/{made[0].id}/set.json", b"{}")
    assert {one.id for one in stage.store.sets()} == {one.id for one in made[1:]}
    assert stage.store.prunable(9, frozenset()) == (made[0].id,)
    with stage.store.lock("test"):
        assert stage.store.prune(9, frozenset({made[0].id})) == ()
        assert stage.store.prune(9, frozenset()) == (made[0].id,)


def test_what_has_come_of_a_download_outlives_its_run_and_goes_with_a_prune(stage: Stage) -> None:
    path = f"{DIRECTORY}/.begun/digest"
    with stage.store.lock("test"), stage.store.begun() as begun:
        assert begun.endswith(f"{DIRECTORY}/.begun")
        stage.put(path, b"half")
    with stage.store.lock("test"), stage.store.begun():
        pass
    assert stage.get(path) == b"half"
    one = adopt(stage)
    assert stage.store.sets() == (one,)
    for forget in (stage.store.forget_begun, lambda: stage.store.prune(9, frozenset())):
        stage.put(path, b"half")
        with stage.store.lock("test"):
            forget()
        assert stage.get(path) is None
    with stage.store.lock("test"):
        stage.store.forget_begun()


def test_floor_and_seen_lock_are_kept(stage: Stage) -> None:
    with stage.store.lock("test"):
        stage.store.set_floor(2026112701)
        stage.store.keep_seen_lock(b"version = 1\n")
    assert (stage.store.floor(), stage.store.seen_lock()) == (2026112701, b"version = 1\n")


def test_one_run_at_a_time_changes_the_store(stage: Stage) -> None:
    with stage.store.lock("one"), pytest.raises(LockedError) as error, stage.store.lock("two"):
        pass
    assert error.value.code == "NNA1139"


def test_a_download_s_place_is_empty_and_goes_with_it(stage: Stage) -> None:
    with stage.store.lock("test"), stage.store.staging() as staged:
        stage.put(f"{staged}/nydus/nydusd", b"x")
    assert stage.store.sets() == ()
    if isinstance(stage, OnDisk):
        assert not Path(staged).exists()
