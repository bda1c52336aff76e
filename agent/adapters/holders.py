"""The processes around a listening socket: when one ends, a descriptor tells (pidfd_open(2)); when the freezer stops
them, their cgroup's file does (cgroup.events, Documentation/admin-guide/cgroup-v2.rst); SIGSTOP is seen in /proc.

No right is needed, and none to see whose the socket is: the kernel names the cgroup in which it was made.
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from agent.adapters.cgroups import CgroupTree
from agent.node.facts_daemon import Listener
from agent.ports_daemon import Holders

_LEAVES = (".service", ".scope")
"""A service's or a container's own cgroup. One that holds more says nothing about the mirror."""
_MANY = 16
_STAT_BYTES = 512  # it has 52 numbers
_STOPPED = ("T", "t")  # by a signal, by a debugger (proc_pid_stat(5))


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

    def look(self) -> Holders:
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
