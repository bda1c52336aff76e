"""A store of artifacts for killing programs on: real sets, real files, and what may be found after a cut.

What is installed lies unpacked in a directory, so nothing but the store's own acts are under test. Each scenario is one
act of an operator; whatever cuts it off, afterwards `current` is the set before or the set after, whole, and the same
act done again ends as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.adapters.artifact_store import DiskStore
from agent.artifacts.lock import Artifact, ArtifactName
from tests.bench.survival import run
from tests.bench.survival.run import Process
from tests.unit.artifacts import NOW, artifact, elf

STORE = "/var/lib/nydus-agent/artifacts"
_SERIALS = {"v2.2.0": 2026010101, "v2.3.0": 2026060101, "v2.4.4": 2026112701}
OLDEST, OLD, NEW = _SERIALS
_PROGRAMS = {
    ArtifactName.NYDUS: ("nydusd", "nydus-image", "nydus-overlayfs"),
    ArtifactName.SNAPSHOTTER: ("containerd-nydus-grpc", "nydus-overlayfs"),
}

Act = Callable[[Path], None]


@dataclass(frozen=True)
class Size:
    """Bytes of each program: many, where a kill shall meet a copy under way; few, where every call is looked at."""

    length: int

    def artifacts(self, version: str) -> tuple[Artifact, ...]:
        """Both archives of a release."""
        return tuple(
            artifact(name, version, programs={program: self.content(program, name, version) for program in programs})
            for name, programs in _PROGRAMS.items()
        )

    def unpack(self, staged: Path, version: str) -> None:
        """What a download has left."""
        for item in self.artifacts(version):
            place = staged / version / item.name
            place.mkdir(parents=True)
            for program in item.programs:
                (place / program.name).write_bytes(self.content(program.name, item.name, version))

    def content(self, program: str, name: ArtifactName, version: str) -> bytes:
        """A program's bytes."""
        seed = hashlib.sha256(f"{program} of {name} {version}".encode()).digest()
        return elf((seed * (self.length // len(seed) + 1))[: self.length])


def store_of(root: Path) -> DiskStore:
    """The store below a root."""
    return DiskStore(STORE, str(root))


@dataclass(frozen=True)
class Installation:
    """What `artifacts install` does with the store, once a download has left its programs in `staged`."""

    size: Size
    staged: Path
    version: str

    def __call__(self, root: Path) -> None:
        store, artifacts = store_of(root), self.size.artifacts(self.version)
        with store.lock("install"):
            installed = store.adopt(f"{self.staged}/{self.version}", artifacts, origin="a test", now=NOW)
            store.set_floor(max(store.floor(), _SERIALS[self.version]))
            store.switch(installed.id)
            store.prune(1, frozenset())


@dataclass(frozen=True)
class Switch:
    """Make a set current."""

    set_id: str

    def __call__(self, root: Path) -> None:
        store = store_of(root)
        with store.lock("switch"):
            store.switch(self.set_id)


def roll_back(root: Path) -> None:
    """What `artifacts rollback` does."""
    store = store_of(root)
    with store.lock("rollback"):
        store.rollback()


def damage(root: Path) -> None:
    """A program of the current set is gone, another one's link leads elsewhere, and something foreign lies about."""
    current = store_of(root).current()
    assert current is not None
    place = Path(f"{root}{current.directory}")
    (place / "programs" / "nydusd").unlink()
    (place / "nydus-image").unlink()
    (place / "nydus-image").symlink_to("/usr/bin/nydus-image")
    (place / "programs" / "foreign").write_bytes(b"x")


@dataclass(frozen=True)
class State:
    """What a store says of itself."""

    current: str
    previous: str
    floor: int
    sets: frozenset[str]

    @classmethod
    def of(cls, root: Path) -> State:
        """Raises ArtifactError where the store cannot be read."""
        store = store_of(root)
        current, previous = store.current(), store.previous()
        return cls(
            current.id if current else "", previous.id if previous else "", store.floor(),
            frozenset(item.id for item in store.sets()),
        )  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """One act on a store that was prepared once; each round works on a copy of it."""

    name: str
    act: Act
    again: Act
    """What brings a store that was cut off to its end."""
    template: Path
    before: State
    after: State
    is_mending: bool
    """The current set is damaged before the act."""
    is_rollback: bool
    """Cut off between its two links it has been done, and knows no set to go back to until another is installed."""

    def copy(self, to: Path) -> Path:
        """The store before, with its files' times; its inodes are others, as after a restored backup."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.template, to, symlinks=True)
        Path(f"{to}.said").unlink(missing_ok=True)
        return to

    def start(self, root: Path, first: Callable[[], None] = lambda: None) -> Process:
        """The act in a process of its own."""
        return Process(root, lambda: self.act(root), first=first)

    def wrong(self, root: Path) -> str:
        """Why the store right after a cut is neither before nor after; "" where it is one of them."""
        now = State.of(root)
        if now.current not in (self.before.current, self.after.current):
            return f"current is {now.current[:12] or 'none'}"
        if now.floor not in (self.before.floor, self.after.floor):
            return f"the floor is {now.floor}"
        if now.current != self.before.current and now.floor != self.after.floor:
            return "the new set is current and its lock may be replaced by an older one"
        lost = self.before.sets & self.after.sets - now.sets
        if lost and not self.is_mending:
            return f"{len(lost)} sets are gone"
        store = store_of(root)
        for name in () if self.is_mending else now.sets:
            if flaws := store.verify(name):
                return f"{name[:12]} is damaged: {flaws[0]}"
        return ""

    def unfinished(self, root: Path) -> str:
        """Do the act again to its end; why the store is not as it was to be then, "" where it is."""
        ended = Process(root, lambda: self.again(root)).wait()
        if ended != run.OK:
            return f"done again, it ended with {ended}: {run.said(root)[-600:]}"
        now = State.of(root)
        if now != self.after and not (self.is_rollback and now == replace(self.after, previous="")):
            return f"done again, it is {now} and not {self.after}"
        left = {path.name for path in Path(f"{root}{STORE}").iterdir()} - {
            "current", "previous", "floor.json", "lock", *self.after.sets,
        }  # fmt: skip
        flaws = [str(flaw) for name in now.sets for flaw in store_of(root).verify(name)]
        return f"done again, these are left: {left} {flaws[:3]}" if left or flaws else ""


def prepare(name: str, size: Size, scratch: Path) -> Scenario:
    """Lay the store, and see what the act makes of it when nobody disturbs it."""
    template, after, staged = scratch / "template", scratch / "after", scratch / "staged"
    Path(f"{template}{STORE}").mkdir(parents=True)
    for version in _SERIALS:
        size.unpack(staged, version)
    for version in () if name == "first installation" else (OLDEST, OLD):
        Installation(size, staged, version)(template)
    if name == "mending":
        damage(template)
    act = roll_back if name == "rollback" else Installation(size, staged, OLD if name == "mending" else NEW)
    before = State.of(template)
    shutil.copytree(template, after, symlinks=True)
    act(after)
    wanted = State.of(after)
    again = Switch(wanted.current) if name == "rollback" else act
    return Scenario(name, act, again, template, before, wanted, name == "mending", name == "rollback")


NAMES = ("first installation", "installation", "rollback", "mending")
