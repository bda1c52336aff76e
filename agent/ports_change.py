"""The ports of a change and of its proof: the journal on the disk, and a real read. Part of `agent.ports`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class Ledger(Protocol):
    """The lock, and the journal of the open transaction: a line is on the disk before the act that it
    undoes.
    """

    def lock(self, who: str) -> AbstractContextManager[None]:
        """Hold the one lock of apply, remove and recover.

        Raises LockedError (says who holds it), FileError.
        """

    def holder(self) -> int:
        """The process that holds the lock, 0 where nobody does."""

    def end_holder(self, pid: int, *, kill: bool) -> bool:
        """End the process, if it holds the lock: let it undo what it began (a stopped one too), or `kill` it.

        False: it does not hold the lock.
        """

    def begin(self, first: bytes, reserve: int) -> None:
        """Open a journal that holds one line, with `reserve` bytes set aside so that the undo has room.

        Raises FileError; no journal is open then.
        """

    def append(self, line: bytes) -> None:
        """Add a line and wait until it is on the disk. Raises FileError."""

    def lines(self) -> tuple[bytes, ...]:
        """The lines of the open journal, without a torn last one; empty where none is open.

        Raises FileError.
        """

    def spend(self) -> None:
        """Give the reserve back to the file system: the undo begins."""

    def close(self) -> None:
        """Remove the journal: the transaction is over. Raises FileError."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a real read by a private nydusd showed."""

    version: str
    read: int
    """Bytes that were read from files of the image."""
    fetched: int
    """Bytes that nydusd asked its backend for (its metric read_amount_total)."""
    relayed: int
    """Bytes of answers that the mirror gave to this nydusd."""
    tasks: int
    """... of which in answers that named a Dragonfly task (X-Dragonfly-Task-Id)."""
    answers: tuple[tuple[str, int], ...]
    """(status, how often) of the mirror's answers; "tunnel" for CONNECT, "refused" where nobody answered."""
    error: str = ""
    """Why the read ended early, where it did; without credentials."""


class Trials(Protocol):
    """Short-lived private nydusd processes: own mount namespace, empty cache, limits, a deadline."""

    def start(self, nydusd: str, *, deadline_s: float) -> str:
        """Start it without an image until it answers and serves a mount of its own, and end it without a
        trace; the version that it tells. Raises NydusdError NNA0731.
        """

    def read(
        self,
        nydusd: str,
        bootstrap: str,
        configure: Callable[[str, str], bytes],
        *,
        mirror: tuple[str, int],
        limit: int,
        deadline_s: float,
    ) -> Trial:
        """Mount an image, read about `limit` bytes of its files, and end without a trace.

        `configure(relay, work_dir)` gives nydusd's configuration: `relay` is the URL of a relay of ours to
        `mirror` that lives as long as the read and counts its bytes, `work_dir` the empty cache. The
        configuration may hold credentials: it is written 0600 in a directory of root and never logged. Raises
        NydusdError.
        """


@dataclass(frozen=True, slots=True)
class Alarm:
    """A program that systemd starts by itself after a while, whatever becomes of who asked for it."""

    name: str
    """Of its units, without a suffix."""
    about: str
    """What it is for, in one line; `systemctl status` shows it."""
    argv: tuple[str, ...]
    """The program with its absolute path, and its arguments."""
    after_s: float
    runs_s: float
    """It is ended where it runs longer."""
    tries: int = 1
    """How often it is started until it ends well, `retry_s` apart."""
    retry_s: float = 30.0


class Alarms(Protocol):
    """Alarms of this boot: they do not survive a reboot, but the death of whoever set them."""

    def set(self, alarm: Alarm) -> None:
        """Set it, instead of one of the same name. When this returns, the time runs. Raises SystemdError."""

    def cancel(self, name: str) -> None:
        """It will not go off; one that has gone off is let run. Nothing happens where none is set.

        Raises SystemdError.
        """

    def waits(self, name: str) -> bool:
        """Whether it is set and has not gone off yet. Raises SystemdError."""
