"""The port of the store: sets of upstream's programs that were verified, and which of them is current."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from agent.artifacts.bundle import Bundle, Member
from agent.artifacts.lock import Artifact
from agent.artifacts.sets import InstalledSet


class FlawKind(enum.StrEnum):
    """What is wrong with a set."""

    CHANGED = "changed"
    """A program has other bytes than were installed."""
    MISSING = "missing"
    FOREIGN = "foreign"
    """Something is there that we did not put there."""
    RIGHTS = "rights"
    """Others than root could change it, or it cannot be run."""
    REPLACED = "replaced"
    """A link that configurations name does not lead to our program: a hot upgrade by the snapshotter, or a person. The
    verified program is still there."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is not as it was installed."""

    kind: FlawKind
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ArtifactStore(Protocol):
    """Sets in one directory. A set appears as a whole and never changes; `current` is one set or another, never mixed.

    Whatever writes must be called with the lock held. Every method may raise ArtifactError: NNA1131 where the directory
    cannot be trusted, NNA1132 and NNA1133 where it cannot be written; then all sets are as they were.
    """

    @property
    def directory(self) -> str:
        """Where the store is; it need not be there yet."""

    def lock(self, who: str) -> AbstractContextManager[None]:
        """Hold the store for oneself, and remove what a run that was killed has left. Raises LockedError (NNA1139)."""

    def sets(self) -> tuple[InstalledSet, ...]:
        """All complete sets, the latest first. What is there in part or unreadable is left out."""

    def find(self, set_id: str) -> InstalledSet | None:
        """The set, if it is there and its programs have the sizes, times and inodes of their installation.

        None else: it is not there, or only `adopt` or `verify` can tell. Reads no program.
        """

    def current(self) -> InstalledSet | None:
        """The set that `current` leads to; None: there is none, or what it leads to is no complete set."""

    def previous(self) -> InstalledSet | None:
        """The set that was current before; None also where it is the current one."""

    def staging(self, size: int = 0, beside: int = 0) -> AbstractContextManager[str]:
        """A new directory of root's for `size` bytes of programs, where the store is; gone with all in it afterwards.

        Raises ArtifactError before anything is fetched: NNA1134, NNA1132 where the set has no room beside them and
        `beside` bytes of something else.
        """

    def begun(self) -> AbstractContextManager[str]:
        """A directory of root's for what has come of archives whose download was cut off: it stays for the next run,
        unless it is empty at the end.
        """

    def forget_begun(self) -> None:
        """Remove what is in there."""

    def adopt(self, staged: str, artifacts: Iterable[Artifact], *, origin: str, now: datetime) -> InstalledSet:
        """Take over what another user has unpacked: each program from the file STAGED/ARTIFACT NAME/PROGRAM.

        The bytes are read once, and are held against size and sha256 of the lock, and their ELF header against the
        architecture, as they are copied; nothing is trusted and no link is followed. When it returns, the set is
        complete and on the disk, but not current. A set that is there already and whole is left as it is; one that is
        damaged is replaced. `origin` says where it came from, without credentials.
        Raises ArtifactError: NNA1108, NNA1114, NNA1115, NNA1120, NNA1134, NNA1138; then the store is as it was.
        """

    def mend(self, set_id: str) -> InstalledSet | None:
        """Put a set's links and record back where its programs still have their bytes and rights, and take away what is
        not ours; None: it is not there, or a program must be fetched again.
        """

    def switch(self, set_id: str, *, forget: bool = False) -> None:
        """Make a set current, at once and for good; the one before becomes previous, or is forgotten: it has failed,
        and nobody shall go back to it. Nothing is done where the set is current.

        Raises ArtifactError: NNA1136 where it is not there, NNA1135 where it is damaged and could not be mended.
        """

    def rollback(self) -> InstalledSet:
        """Make the previous set current; the one that was becomes previous.

        Raises ArtifactError: NNA1137 where there is none, NNA1135 where it is damaged.
        """

    def verify(self, set_id: str) -> tuple[Flaw, ...]:
        """Read every program of a set again; empty: it is as it was installed. Raises ArtifactError (NNA1136)."""

    def prunable(self, keep: int, in_use: frozenset[str]) -> tuple[str, ...]:
        """All sets but the current and the previous one, those in use, and the `keep` latest.

        What has the name of a set and does not say what it is counts too, after the others.
        """

    def prune(self, keep: int, in_use: frozenset[str]) -> tuple[str, ...]:
        """Remove what is `prunable`, and what has come of downloads that were cut off; which sets."""

    def floor(self) -> int:
        """The highest serial of a lock that was accepted; 0: none yet."""

    def set_floor(self, serial: int) -> None:
        """Keep a serial as the floor; lower than before only where the operator has asked for it."""

    def seen_lock(self) -> bytes | None:
        """The lock that was made by trusting a release's checksum; None: there is none."""

    def keep_seen_lock(self, content: bytes) -> None:
        """Put that lock in place."""


class Bundles(Protocol):
    """Bundle files (agent.artifacts.bundle), by their absolute paths."""

    def read(self, path: str) -> Bundle:
        """What is in a bundle; the archives inside are not looked at, whoever takes one out checks it against the lock.

        Raises ArtifactError (NNA1123, and what `lock.parse` raises) and FileError.
        """

    def write(self, path: str, planned: Bundle, archives: str, progress: Callable[[Member, int], None]) -> None:
        """Fill a bundle from a directory that holds its archives under their own names, each checked against size and
        digest of the lock while it is copied. The file is replaced at once and whole, or stays as it was.

        `progress` is told the bytes that are done of each archive. Raises ArtifactError (NNA1114, NNA1115), FileError.
        """
