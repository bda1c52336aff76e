"""The store on the disk: sets that appear by one rename, and links that are swapped by one rename.

    DIRECTORY/                      0755, root's alone, as is every directory that leads to it
      SET/programs/nydusd …         0555, verified, on the disk before SET has its name
      SET/nydusd -> programs/nydusd what configurations name: a hot upgrade by the snapshotter replaces this link only
      SET/set.json                  what it is, and by what its programs are known again without reading them
      current -> SET   previous -> SET
      floor.json   seen.lock.toml   lock
      .new-XXXX                     being made; whoever takes the lock next removes it
      .begun/SHA256                 what has come of an archive, by its digest in the lock; not verified, never run

A kill, a full disk or a power cut at any point leaves `current` as it was or as it was to be.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from agent.adapters import artifact_sets
from agent.adapters.artifact_files import (
    directory,
    link_target,
    make_directory,
    need_directory,
    read_small,
    remove_if_there,
    remove_tree,
    told,
)
from agent.adapters.artifact_verify import flaws, is_untouched
from agent.adapters.walk import open_directory, place_of, sync_directory
from agent.artifacts.lock import RECORD, SIZE_CAP, Artifact
from agent.artifacts.selection import members
from agent.artifacts.sets import InstalledSet, described, latest_first, to_prune
from agent.config.forms import is_set_id
from agent.errors import ArtifactError, LockedError
from agent.outside_json import json_value
from agent.ports_artifacts import Flaw, FlawKind

_CURRENT, _PREVIOUS = "current", "previous"
_BEGUN = ".begun"
_FLOOR, _SEEN_LOCK, _LOCK = "floor.json", "seen.lock.toml", "lock"
_SPARE = 4 << 20
"""Bytes that must be free beyond the programs: directories, records, and not the last block of the file system."""


class DiskStore:
    """A store in `directory` below `root` ("/" on a node, a directory in tests). See ports_artifacts.ArtifactStore."""

    def __init__(self, directory: str, root: str = "/") -> None:
        self._directory = directory.rstrip("/")
        self._root = root
        self._held = False

    @property
    def directory(self) -> str:
        """See the port."""
        return self._directory

    @contextlib.contextmanager
    def lock(self, who: str) -> Iterator[None]:
        """See the port. The file is 0600: whoever may open it could forbid every change."""
        with self._told("lock"), self._place(make=True) as store:
            flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(_LOCK, flags, 0o600, dir_fd=store)
        try:
            self._take(descriptor, who)
            self._held = True
            self._tidy()
            yield
        finally:
            self._held = False
            os.close(descriptor)

    def _take(self, descriptor: int, who: str) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError("NNA1139", f"{who} cannot begin: another run uses the store of artifacts",
                              cause=f"it holds {self._directory}/{_LOCK}") from None  # fmt: skip

    def _tidy(self) -> None:
        with self._writing("tidy up") as store:
            for name in os.listdir(store):
                if name.startswith(artifact_sets.TEMPORARY):
                    remove_tree(name, store)

    def sets(self) -> tuple[InstalledSet, ...]:
        """See the port."""
        with self._reading() as store:
            names = () if store is None else os.listdir(store)
            found = [installed for name in names if (installed := self._recorded(name, store)) is not None]
        return latest_first(found)

    def find(self, set_id: str) -> InstalledSet | None:
        """See the port."""
        with self._reading() as store:
            seen = None if store is None else artifact_sets.recorded(set_id, store, self._directory)
            if store is None or seen is None:
                return None
            with directory(set_id, store) as place:
                return seen[0] if is_untouched(place, *seen) else None

    def current(self) -> InstalledSet | None:
        """See the port."""
        with self._reading() as store:
            return self._linked(_CURRENT, store)

    def previous(self) -> InstalledSet | None:
        """See the port."""
        with self._reading() as store:
            found, current = self._linked(_PREVIOUS, store), self._linked(_CURRENT, store)
            return None if found is None or (current is not None and current.id == found.id) else found

    def _linked(self, name: str, store: int | None) -> InstalledSet | None:
        return None if store is None else self._recorded(link_target(name, store), store)

    def _recorded(self, name: str, store: int | None) -> InstalledSet | None:
        seen = None if store is None else artifact_sets.recorded(name, store, self._directory)
        return None if seen is None else seen[0]

    @contextlib.contextmanager
    def staging(self, size: int = 0, beside: int = 0) -> Iterator[str]:
        """See the port."""
        name = artifact_sets.temporary()
        with self._writing("add to") as store:
            self._need_room(store, 2 * size + beside)
            make_directory(name, store, 0o700)
        try:
            yield f"{self._root.rstrip('/')}{self._directory}/{name}"
        finally:
            with contextlib.suppress(ArtifactError), self._writing("tidy up") as store:  # else the next run does it
                remove_tree(name, store)

    @contextlib.contextmanager
    def begun(self) -> Iterator[str]:
        """See the port."""
        with self._writing("add to") as store:
            need_directory(_BEGUN, store)
        try:
            yield f"{self._root.rstrip('/')}{self._directory}/{_BEGUN}"
        finally:
            with contextlib.suppress(ArtifactError), self._writing("tidy up") as store, contextlib.suppress(OSError):
                os.rmdir(_BEGUN, dir_fd=store)

    def forget_begun(self) -> None:
        """See the port."""
        with self._writing("tidy up") as store:
            remove_tree(_BEGUN, store)

    def adopt(self, staged: str, artifacts: Iterable[Artifact], *, origin: str, now: datetime) -> InstalledSet:
        """See the port."""
        chosen = tuple(artifacts)
        wanted = described(chosen, self._directory, origin, now)
        there = self.find(wanted.id) or self.mend(wanted.id)
        if there is not None:
            return there
        with self._writing("add to") as store:
            self._need_room(store, wanted.size)
            artifact_sets.make(store, wanted, members(chosen), staged)
        return wanted

    def _need_room(self, store: int, size: int) -> None:
        room = os.fstatvfs(store)
        if room.f_flag & os.ST_NOEXEC:
            raise ArtifactError("NNA1134", f"programs cannot run from {self._directory}",
                                cause="its file system is mounted noexec")  # fmt: skip
        free = room.f_bavail * room.f_frsize
        if free < size + _SPARE:
            raise ArtifactError("NNA1132", f"{self._directory} has no room for the programs",
                                cause=f"they need {size + _SPARE} bytes, {free} are free")  # fmt: skip

    def mend(self, set_id: str) -> InstalledSet | None:
        """See the port."""
        with self._writing("mend a set of") as store:
            installed = self._recorded(set_id, store)
            return installed if installed is not None and artifact_sets.mend(store, installed) else None

    def switch(self, set_id: str, *, forget: bool = False) -> None:
        """See the port. `previous` first: cut off in between, the set that is current is kept by both links."""
        with self._writing("switch") as store:
            self._need(set_id, store)
            before = link_target(_CURRENT, store)
            if before == set_id:
                return
            kept = not forget and self._recorded(before, store) is not None
            self._point(store, {**({_PREVIOUS: before} if kept else {}), _CURRENT: set_id})

    def rollback(self) -> InstalledSet:
        """See the port. `current` first: cut off in between, it has been done."""
        target = self.previous()
        if target is None:
            raise ArtifactError("NNA1137", "there is no set to go back to")
        with self._writing("switch") as store:
            self._need(target.id, store)
            before = link_target(_CURRENT, store)
            self._point(store, {_CURRENT: target.id, **({_PREVIOUS: before} if before else {})})
        return target

    def _need(self, set_id: str, store: int) -> None:
        """That the set is there and whole: nothing that is damaged becomes current."""
        if self.find(set_id) is not None or self.mend(set_id) is not None:
            return
        if self._recorded(set_id, store) is None:
            raise self._unknown(set_id)
        raise ArtifactError("NNA1135", f"set {set_id[:12]} is damaged, it does not become current",
                            seen=tuple(map(str, self.verify(set_id))))  # fmt: skip

    def _unknown(self, set_id: str) -> ArtifactError:
        there = tuple(f"{item.id[:12]} is there" for item in self.sets())
        return ArtifactError("NNA1136", f"{self._directory} holds no set {set_id[:12]}", seen=there)

    def _point(self, store: int, links: Mapping[str, str]) -> None:
        """Let links lead elsewhere, one after the other, each on the disk before the next; all or, told so, none."""
        before = {name: link_target(name, store) for name in links}
        try:
            for name, target in links.items():
                _lay(name, target, store)
        except OSError:
            for name, target in before.items():
                with contextlib.suppress(OSError):
                    _lay(name, target, store)
            raise

    def verify(self, set_id: str) -> tuple[Flaw, ...]:
        """See the port."""
        with self._reading() as store:
            if store is None or not is_set_id(set_id) or set_id not in os.listdir(store):
                raise self._unknown(set_id)
            installed = self._recorded(set_id, store)
            if installed is None:
                where = f"{self._directory}/{set_id}/{RECORD}"
                return (Flaw(FlawKind.CHANGED, where, "it does not say what this set is"),)
            with directory(set_id, store) as place:
                return flaws(place, installed)

    def prunable(self, keep: int, in_use: frozenset[str]) -> tuple[str, ...]:
        """See the port."""
        with self._reading() as store:
            if store is None:
                return ()
            needed = in_use | {link_target(_CURRENT, store), link_target(_PREVIOUS, store)}
            sets = self.sets()
            known = needed | {item.id for item in sets}
            nameless = sorted(name for name in os.listdir(store) if is_set_id(name) and name not in known)
            return (*(item.id for item in to_prune(sets, keep, needed)), *nameless)

    def prune(self, keep: int, in_use: frozenset[str]) -> tuple[str, ...]:
        """See the port. A set gives its name back first, so that none is ever there in part."""
        gone = self.prunable(keep, in_use)
        with self._writing("prune") as store:
            for name in gone:
                made = artifact_sets.temporary()
                os.rename(name, made, src_dir_fd=store, dst_dir_fd=store)
                sync_directory(store)
                remove_tree(made, store)
            remove_tree(_BEGUN, store)
        return gone

    def floor(self) -> int:
        """See the port."""
        with self._reading() as store:
            content = None if store is None else read_small(_FLOOR, store, SIZE_CAP)
        if content is None:
            return 0
        try:
            serial = json_value(content)["serial"]
            if type(serial) is int and serial >= 0:
                return serial
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        where = f"{self._directory}/{_FLOOR}"
        raise ArtifactError("NNA1131", f"{where} does not say which lock was accepted last",
                            try_=f"rm {where} (then any lock that has not expired is accepted)")  # fmt: skip

    def set_floor(self, serial: int) -> None:
        """See the port."""
        with self._writing("write to") as store:
            artifact_sets.replace(store, _FLOOR, store, json.dumps({"serial": serial}).encode() + b"\n")

    def seen_lock(self) -> bytes | None:
        """See the port."""
        with self._reading() as store:
            return None if store is None else read_small(_SEEN_LOCK, store, SIZE_CAP)

    def keep_seen_lock(self, content: bytes) -> None:
        """See the port."""
        with self._writing("write to") as store:
            artifact_sets.replace(store, _SEEN_LOCK, store, content)

    def _told(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return told(doing, self._directory)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[int | None]:
        with self._told("read"), self._place() as store:
            yield store

    @contextlib.contextmanager
    def _writing(self, doing: str) -> Iterator[int]:
        assert self._held, "whoever writes to the store holds its lock"
        with self._told(doing), self._place() as store:
            if store is None:
                raise OSError(errno.ENOENT, "it is not there any more")
            yield store

    @contextlib.contextmanager
    def _place(self, *, make: bool = False) -> Iterator[int | None]:
        """The store's directory, opened, that root alone can write to, as all that lead to it; None: not there."""
        made: list[str] | None = [] if make else None
        with place_of(self._root, f"{self._directory}/{_LOCK}", make=made, follow=False, alone=True) as place:
            if place is None:
                yield None
                return
            store = open_directory(place.directory)
            try:
                yield store
            finally:
                os.close(store)


def _lay(name: str, target: str, store: int) -> None:
    """A link to `target`, or none where that is empty; on the disk when this returns. Raises OSError."""
    if link_target(name, store) == target:
        return
    if target:
        artifact_sets.relink(store, name, store, target)
    else:
        remove_if_there(name, store)
    sync_directory(store)
