"""A store of sets in memory; the programs lie in the node's fake files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.artifacts import sets
from agent.artifacts.lock import Artifact
from agent.artifacts.sets import InstalledSet
from agent.errors import ArtifactError, LockedError
from agent.ports_artifacts import Flaw, FlawKind
from tests.fakes.files import FakeFiles


class FakeStore:
    """Sets by id. A program in `files` that is not what the set says is damaged, like one that is gone."""

    def __init__(self, directory: str, files: FakeFiles) -> None:
        self.directory = directory
        self.files = files
        self.locked_by = ""
        self.before_lock: Callable[[], None] = lambda: None
        """What another run does just before this one gets the lock."""
        self._sets: dict[str, InstalledSet] = {}
        self._current: list[str] = []
        """Newest last: current, and before it previous."""
        self._floor = 0
        self._seen: bytes | None = None

    @contextmanager
    def lock(self, who: str) -> Iterator[None]:
        self.before_lock()
        if self.locked_by:
            raise LockedError("NNA1139", "another run uses the store", cause=self.locked_by)
        self.locked_by = who
        try:
            yield
        finally:
            self.locked_by = ""

    def sets(self) -> tuple[InstalledSet, ...]:
        return sets.latest_first(one for set_id in self._sets if (one := self._recorded(set_id)) is not None)

    def _recorded(self, set_id: str) -> InstalledSet | None:
        """None also where somebody has put another record in its place."""
        one = self._sets.get(set_id)
        return None if one is None or f"{one.directory}/set.json" in self.files.files else one

    def find(self, set_id: str) -> InstalledSet | None:
        found = self._recorded(set_id)
        return found if found is not None and not self._flaws(found) else None

    def current(self) -> InstalledSet | None:
        return self._recorded(self._current[-1]) if self._current else None

    def previous(self) -> InstalledSet | None:
        before = self._current[-2] if len(self._current) > 1 else ""
        return self._recorded(before) if before not in self._current[-1:] else None

    @contextmanager
    def staging(self, size: int = 0, beside: int = 0) -> Iterator[str]:
        staged = f"{self.directory}/.new-0"
        try:
            yield staged
        finally:
            for path in [path for path in self.files.files if path.startswith(f"{staged}/")]:
                del self.files.files[path]

    @contextmanager
    def begun(self) -> Iterator[str]:
        yield f"{self.directory}/.begun"

    def forget_begun(self) -> None:
        for path in [path for path in self.files.files if path.startswith(f"{self.directory}/.begun/")]:
            del self.files.files[path]

    def mend(self, set_id: str) -> InstalledSet | None:
        return self.find(set_id)

    def adopt(self, staged: str, artifacts: Iterable[Artifact], *, origin: str, now: datetime) -> InstalledSet:
        made = sets.described(artifacts, self.directory, origin, now)
        contents = {}
        for program in made.programs:
            content = self._staged(staged, made, program.name)
            if hashlib.sha256(content).hexdigest() != program.sha256:
                raise ArtifactError("NNA1115", f"the digest of {program.name} is not what the lock says")
            contents[program.name] = content
        return self.lay(made, contents)

    def _staged(self, staged: str, made: InstalledSet, program: str) -> bytes:
        for source in reversed(made.sources):
            fact = self.files.read(f"{staged}/{source.name}/{program}")
            if fact is not None:
                return fact.content
        raise ArtifactError("NNA1138", f"{program} is not there")

    def lay(self, made: InstalledSet, contents: dict[str, bytes]) -> InstalledSet:
        """A set with these programs, as if it had been taken over; the latest has the latest time."""
        latest = max((one.made for one in self._sets.values()), default=datetime(2026, 1, 1, tzinfo=UTC))
        known = self._sets.setdefault(made.id, replace(made, made=max(made.made, latest + timedelta(seconds=1))))
        for name, content in contents.items():
            self.files.put(f"{known.directory}/{name}", content, mode=0o555)
        return known

    def switch(self, set_id: str, *, forget: bool = False) -> None:
        if set_id not in self._sets:
            raise ArtifactError("NNA1136", f"set {set_id[:12]} is not in the store")
        if self._current[-1:] != [set_id]:
            self._current = [*(self._current[:-1] if forget else self._current[-1:]), set_id]

    def rollback(self) -> InstalledSet:
        before = self.previous()
        if before is None:
            raise ArtifactError("NNA1137", "there is no set to go back to")
        self.switch(before.id)
        return before

    def verify(self, set_id: str) -> tuple[Flaw, ...]:
        if set_id not in self._sets:
            raise ArtifactError("NNA1136", f"set {set_id[:12]} is not in the store")
        return self._flaws(self._sets[set_id])

    def _flaws(self, one: InstalledSet) -> tuple[Flaw, ...]:
        found = []
        for program in one.programs:
            path = f"{one.directory}/{program.name}"
            fact = self.files.read(path)
            if fact is None:
                found.append(Flaw(FlawKind.MISSING, path, "it is not there"))
            elif hashlib.sha256(fact.content).hexdigest() != program.sha256:
                found.append(Flaw(FlawKind.CHANGED, path, "its bytes are others"))
        return tuple(found)

    def prunable(self, keep: int, in_use: frozenset[str]) -> tuple[str, ...]:
        readable, linked = self.sets(), set(self._current)
        gone = list(sets.to_prune(readable, keep, in_use | linked))
        gone += [one for one in self._sets.values() if one not in readable and one.id not in in_use | linked]
        return tuple(one.id for one in gone)

    def prune(self, keep: int, in_use: frozenset[str]) -> tuple[str, ...]:
        gone = self.prunable(keep, in_use)
        for set_id in gone:
            one = self._sets.pop(set_id)
            for program in one.programs:
                self.files.files.pop(f"{one.directory}/{program.name}", None)
        self.forget_begun()
        return gone

    def floor(self) -> int:
        return self._floor

    def set_floor(self, serial: int) -> None:
        self._floor = serial

    def seen_lock(self) -> bytes | None:
        return self._seen

    def keep_seen_lock(self, content: bytes) -> None:
        self._seen = content


class FakeStores:
    """Stores by directory."""

    def __init__(self, files: FakeFiles) -> None:
        self._files = files
        self._stores: dict[str, FakeStore] = {}

    def __call__(self, directory: str) -> FakeStore:
        return self._stores.setdefault(directory, FakeStore(directory, self._files))
