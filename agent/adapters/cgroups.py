"""Where processes live in the cgroup v2 tree, read from /proc, which needs no rights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from agent.errors import FenceError

_WALK = 4000
"""Directories; a node with more pods than that has other troubles."""


class CgroupTree:
    """The cgroup v2 tree of this node. Paths are as in /proc/PID/cgroup ("/system.slice/x.service")."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = Path(proc)
        self._mount: Path | None = None

    def of_processes(self, *patterns: str) -> Mapping[str, tuple[str, ...]]:
        """See ports.Cgroups.

        It reads one small file for each process of the node: some 7 ms where there are a thousand.
        """
        found: dict[str, set[str]] = {pattern: set() for pattern in patterns}
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
                found[pattern].add(path)
        return {pattern: tuple(sorted(paths)) for pattern, paths in found.items()}

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

        The kernel finds it by a handle that only root may open, so the tree is walked: 5 ms where there are 500.
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
        # Not by pathlib, which takes four times as long: with a hundred mounts hundreds of files are read each time.
        try:
            with open(f"{self._proc}/{pid}/{name}", "rb", buffering=0) as file:
                return file.readall().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return ""  # the process ended, or is hidden from us
        except OSError as error:
            raise _unreadable(self._proc / pid / name, error) from error


def _unreadable(path: Path, error: OSError) -> FenceError:
    cause = f"{path}: {error.strerror or error}"
    return FenceError("NNA0802", "the processes of nydusd and containerd could not be looked for", cause=cause)


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
