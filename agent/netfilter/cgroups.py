"""Where processes live in the cgroup v2 tree, and what becomes of those around a listening socket. No right
is needed.

When a process ends, a descriptor tells (pidfd_open(2)); when the freezer stops it, its cgroup's file does
(cgroup.events, Documentation/admin-guide/cgroup-v2.rst); SIGSTOP is seen in /proc. Whose the socket is, is
not asked: the kernel names the cgroup in which it was made.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from agent.errors import FenceError
from agent.facts.node import Listener
from agent.ports import Holders

_WALK = 4000
"""Directories; a node with more pods than that has other troubles."""
_LEAVES = (".service", ".scope")
"""A service's or a container's own cgroup. One that holds more says nothing about the mirror."""
_MANY = 16
_STAT_BYTES = 512  # it has 52 numbers
_STOPPED = ("T", "t")  # by a signal, by a debugger (proc_pid_stat(5))


class CgroupTree:
    """The cgroup v2 tree of this node. Paths are as in /proc/PID/cgroup ("/system.slice/x.service")."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = Path(proc)
        self._mount: Path | None = None

    def of_processes(self, *patterns: str) -> Mapping[str, Mapping[str, int]]:
        """See ports.Cgroups.

        It reads one small file for each process of the node: some 7 ms where there are a thousand.
        """
        found: dict[str, Counter[str]] = {pattern: Counter() for pattern in patterns}
        try:
            with os.scandir(self._proc) as entries:
                pids = [entry.name for entry in entries if entry.name.isdigit()]
        except OSError as error:
            raise _unreadable(self._proc, error) from error
        for pid in pids:
            name = self._text(pid, "comm").removesuffix("\n")
            fitting = [pattern for pattern in patterns if _fits(name, pattern)]
            path = self._cgroup_of(pid) if fitting else ""
            for pattern in fitting if path else ():
                found[pattern][path] += 1
        return found

    def ids(self, paths: tuple[str, ...]) -> dict[int, str]:
        """The kernel's id of each of these cgroups that exists: the inode number of its directory."""
        mount = self.mount()
        ids: dict[int, str] = {}
        for path in paths:
            try:
                ids[(mount / path.lstrip("/")).stat().st_ino] = path
            except OSError:
                continue  # it went away with its last process
        return ids

    def path_of(self, ident: int) -> str:
        """The cgroup with this id; "" where there is none (among the first thousands).

        The kernel finds it by a handle that only root may open, so the tree is walked: 5 ms where there are
        500.
        """
        mount = self.mount()
        waiting = [mount]
        for _ in range(_WALK):
            if not waiting:
                return ""
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    if entry.inode() == ident:
                        return "/" + str(Path(entry.path).relative_to(mount))
                    waiting.append(Path(entry.path))
        return ""

    def own(self) -> str:
        """The cgroup of this process."""
        return self._cgroup_of("self")

    def mount(self) -> Path:
        """Where the v2 tree is mounted: /sys/fs/cgroup, or below it on a node that uses both versions.

        Looked up again only when it is no such tree any more: a node's list of mounts can be a megabyte.
        """
        if self._mount is None or not (self._mount / "cgroup.controllers").exists():
            self._mount = self._find_mount()
        return self._mount

    def _find_mount(self) -> Path:
        for line in self._text("self", "mounts").splitlines():
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return Path(where)
        return Path("/sys/fs/cgroup")

    def _cgroup_of(self, pid: str) -> str:
        for line in self._text(pid, "cgroup").splitlines():
            if line.startswith("0::"):
                return line.removeprefix("0::")
        return ""

    def _text(self, pid: str, name: str) -> str:
        # Not by pathlib, which takes four times as long: with a hundred mounts hundreds of files are read
        # each time.
        try:
            with open(f"{self._proc}/{pid}/{name}", "rb", buffering=0) as file:
                return file.readall().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return ""  # the process ended, or is hidden from us
        except OSError as error:
            raise _unreadable(self._proc / pid / name, error) from error


def _unreadable(path: Path, error: OSError) -> FenceError:
    cause = f"{path}: {error.strerror or error}"
    return FenceError(
        "NNA0801", "the processes of nydusd and containerd could not be looked for", cause=cause
    )


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


class CgroupProcesses:
    """Follows at most one cgroup at a time; one descriptor for all that is waited for."""

    def __init__(self, tree: CgroupTree) -> None:
        self._tree = tree
        self._epoll = select.epoll()
        self._pids: dict[int, tuple[int, str]] = {}
        """pidfd -> its /proc/PID/stat, which stays open because it is read with every tick; in words."""
        self._events = -1

    def fileno(self) -> int:
        """See ports.ListenerProcesses."""
        return self._epoll.fileno()

    def follow(self, listener: Listener) -> str:
        """See ports.ListenerProcesses."""
        self._forget()
        path = self._tree.path_of(listener.cgroup) if listener.cgroup else ""
        if not path.endswith(_LEAVES):
            return f"its cgroup is no service's: {path or 'unknown'}"
        return self._open(self._tree.mount() / path.lstrip("/"))

    def read(self) -> Holders:
        """See ports.ListenerProcesses."""
        ended = []
        for descriptor, _ in self._epoll.poll(0):
            if descriptor in self._pids:
                stat, words = self._pids.pop(descriptor)
                ended.append(words)
                self._epoll.unregister(descriptor)
                os.close(descriptor)
                if stat != -1:
                    os.close(stat)
        return Holders(tuple(ended), self._stopped())

    def close(self) -> None:
        """Give all descriptors up."""
        self._forget()
        self._epoll.close()

    def _open(self, directory: Path) -> str:
        try:
            pids = [int(line) for line in (directory / "cgroup.procs").read_text().split()]
            if not pids or len(pids) > _MANY or 0 in pids:  # 0: of another pid namespace
                return f"{len(pids)} processes in {directory.name}"
            self._events = os.open(directory / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
            self._epoll.register(self._events, select.EPOLLPRI)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    descriptor = os.pidfd_open(pid)
                    self._pids[descriptor] = (_stat(pid), f"{_name(pid)} (pid {pid})")
                    self._epoll.register(descriptor, select.EPOLLIN)
        except OSError as error:  # the cgroup is gone, or there is no descriptor left
            self._forget()
            return f"{directory.name}: {error.strerror}"
        return ""

    def _stopped(self) -> str:
        with contextlib.suppress(OSError):  # not followed, or the cgroup went away with its last process
            if b"frozen 1" in os.pread(self._events, 256, 0):
                return "its cgroup is frozen"
        if self._pids and all(_state(stat) in _STOPPED for stat, _ in self._pids.values()):
            return "stopped by a signal: " + ", ".join(words for _, words in self._pids.values())
        return ""

    def _forget(self) -> None:
        for descriptor in (*self._pids, *(stat for stat, _ in self._pids.values()), self._events):
            if descriptor != -1:
                os.close(descriptor)  # which ends its registration too (epoll(7))
        self._pids, self._events = {}, -1


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"


def _stat(pid: int) -> int:
    try:
        return os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1  # it has ended, or is hidden from us


def _state(stat: int) -> str:
    try:
        return os.pread(stat, _STAT_BYTES, 0).rpartition(b")")[2][1:2].decode()
    except OSError:
        return ""  # it has ended; its descriptor tells
