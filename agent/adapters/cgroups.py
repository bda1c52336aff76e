"""Where processes live in the cgroup v2 tree, read from /proc, which needs no rights."""

from __future__ import annotations

import os
from pathlib import Path


class CgroupTree:
    """The cgroup v2 tree of this node. Paths are as in /proc/PID/cgroup ("/system.slice/x.service")."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = Path(proc)

    def of_processes(self, *names: str) -> tuple[str, ...]:
        """The cgroups of all processes whose short name (proc_pid_comm(5)) begins with one of `names`, sorted.

        It reads one small file for each process of the node: some 20 ms where there are a thousand.
        """
        found: set[str] = set()
        with os.scandir(self._proc) as entries:
            pids = [entry.name for entry in entries if entry.name.isdigit()]
        for pid in pids:
            if self._text(pid, "comm").startswith(names):
                found |= {path for path in (self._cgroup_of(pid),) if path}
        return tuple(sorted(found))

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

    def own(self) -> str:
        """The cgroup of this process."""
        return self._cgroup_of("self")

    def mount(self) -> Path:
        """Where the v2 tree is mounted: /sys/fs/cgroup, or below it on a node that uses both versions."""
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
        try:
            return (self._proc / pid / name).read_text(errors="replace")
        except OSError:
            return ""  # the process ended
