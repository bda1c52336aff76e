"""Fakes of the ports that only the daemon has, and all of them together."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import time
from collections.abc import Callable, Mapping

from agent.errors import FenceError, PortError
from agent.facts.node import Listener
from agent.ports import DaemonPorts, Holders, JournalLine, Processes
from tests.fakes.clock import FakeClock
from tests.fakes.fence import FakeFence
from tests.fakes.ledger import FakeLedger
from tests.fakes.processes import FakeProcesses


class PassingClock(FakeClock):
    """A clock that goes by itself, for a fake whose leases must really end."""

    def monotonic(self) -> float:
        return time.monotonic()


class FakeNotify:
    """Keeps what was sent; `heard` is called with it."""

    def __init__(self) -> None:
        self.watchdog_s = 3.0
        self.sent: list[str] = []
        self.heard: Callable[[str], None] = lambda _: None

    def send(self, *assignments: str) -> None:
        self.sent += assignments
        for assignment in assignments:
            self.heard(assignment)


class FakeWatch:
    """`touch` makes the descriptor readable, as inotify does."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._changed: list[str] = []
        self.directories: set[str] = set()

    def fileno(self) -> int:
        return self._read

    def add(self, directory: str) -> bool:
        self.directories.add(directory)
        return True

    def changed(self) -> tuple[str, ...]:
        if self._changed:
            os.read(self._read, 4096)
        found, self._changed = tuple(self._changed), []
        return found

    def touch(self, path: str) -> None:
        self._changed.append(path)
        os.write(self._write, b"x")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class FakeCgroups:
    """One nydusd, in the snapshotter's unit, and containerd; `homes` is name -> cgroup."""

    def __init__(self) -> None:
        self.homes = {
            "nydusd": "/system.slice/nydus-snapshotter.service",
            "containerd": "/system.slice/containerd.service",
        }
        self.broken = ""
        self.each = 1
        """Processes in each."""

    def of_processes(self, *patterns: str) -> Mapping[str, Mapping[str, int]]:
        if self.broken:
            raise FenceError("NNA0801", "processes could not be listed", cause=self.broken)
        return {pattern: self._of(pattern) for pattern in patterns}

    def _of(self, pattern: str) -> Mapping[str, int]:
        return {home: self.each for name, home in self.homes.items() if fnmatch.fnmatchcase(name, pattern)}


class FakeTables:
    """Listening sockets on `address`: port -> uid."""

    def __init__(self) -> None:
        self.address = "127.0.0.1"
        self.held: dict[int, int] = {}
        self.broken = ""
        self.bug = ""
        """What no adapter may raise."""

    def find_listener(self, address: str, port: int) -> Listener | None:
        found = self.listening(port)
        _, uid, inode = found[0] if address == self.address and found else ("", 0, 0)
        return Listener(address, port, uid, inode) if inode else None

    def listening(self, port: int) -> tuple[tuple[str, int, int], ...]:
        if self.bug:
            raise RuntimeError(self.bug)
        if self.broken:
            raise PortError("NNA0805", "listening sockets could not be listed", cause=self.broken)
        return ((self.address, self.held[port], 1000 + port),) if port in self.held else ()

    def holder(self, uid: int, inode: int) -> str:
        return f"squatter (pid {inode}), uid {uid}"


class FakeJournal:
    """What `write` is given; `end` ends the follower, which `start` begins anew (or not, with `refuses`)."""

    def __init__(self) -> None:
        self.problem = "not started"
        self.refuses = ""
        self.starts = 0
        self._lines: list[JournalLine] = []
        self._pipe = (-1, -1)

    def start(self) -> None:
        self.close()
        self.starts += 1
        self.problem = self.refuses
        if not self.refuses:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._pipe[0]

    def lines(self) -> tuple[JournalLine, ...]:
        if self._pipe[0] != -1:
            try:
                if not os.read(self._pipe[0], 65536):
                    self.problem = "journalctl has ended"
            except BlockingIOError:
                pass
        found, self._lines = tuple(self._lines), []
        return found

    def close(self) -> None:
        read, write = self._pipe
        self._pipe = (-1, -1)
        self.problem = self.problem or "not started"
        if read != -1:
            os.close(read)
        if write != -1:
            os.close(write)

    def write(self, text: str, *, at: float | None = None, dropped: int = 0, pid: int = 0) -> None:
        self._lines.append(JournalLine(text, time.monotonic() if at is None else at, dropped, pid))
        if self._pipe[1] != -1:
            os.write(self._pipe[1], b"x")

    def end(self) -> None:
        read, write = self._pipe
        os.close(write)
        self._pipe = (read, -1)


class FakeListenerProcesses:
    """One process for each socket that is followed, until `end` or `stop`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.followed: list[Listener] = []
        self.refuses = ""
        self._now = Holders()

    def fileno(self) -> int:
        return self._read

    def follow(self, listener: Listener) -> str:
        self.followed.append(listener)
        self._now = Holders()
        return self.refuses

    def read(self) -> Holders:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        found, self._now = self._now, Holders((), self._now.stopped)
        return found

    def end(self, words: str) -> None:
        self._now = Holders((*self._now.ended, words), self._now.stopped)
        os.write(self._write, b"x")

    def stop(self, words: str) -> None:
        self._now = Holders(self._now.ended, words)
        os.write(self._write, b"x")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class FakeNames:
    """A name service of a dictionary; addresses stand for themselves."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.asked = 0

    async def addresses(self, host: str) -> tuple[str, ...]:
        self.asked += 1
        if host in self.known:
            return self.known[host]
        if host.replace(".", "").isdigit():
            return (host,)
        raise PortError("NNA0804", f"{host} was not resolved", cause="unknown name")


class FakeDaemonPorts:
    """All ports of the daemon, in memory."""

    def __init__(self) -> None:
        self.fence = FakeFence(PassingClock())
        self.cgroups = FakeCgroups()
        self.notify = FakeNotify()
        self.watch = FakeWatch()
        self.tables = FakeTables()
        self.names = FakeNames()
        self.journal = FakeJournal()
        self.mirror_processes = FakeListenerProcesses()
        self.processes = FakeProcesses()
        self.ledger = FakeLedger()

    def ports(self) -> DaemonPorts:
        return DaemonPorts(
            fence=self.fence,
            notify=self.notify,
            watch=self.watch,
            cgroups=self.cgroups,
            tables=self.tables,
            names=self.names,
            journal=self.journal,
            mirror_processes=self.mirror_processes,
            changer=self.ledger.holder,
            processes=self._processes,
        )

    def close(self) -> None:
        """Give the descriptors up."""
        self.watch.close()
        self.journal.close()
        self.mirror_processes.close()

    def _processes(self) -> Processes:
        return self.processes
