"""Who holds a socket: the process, how it was started, and whose service it is (proc(5), cgroups(7))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.ports_dragonfly import SocketHolder

_CAP = 64 << 10


class ProcHolders:
    """By /proc: the processes of other users only root may see.

    `kept` takes what is wanted out of /proc/PID/environ, which may hold secrets.
    """

    def __init__(self, kept: Callable[[bytes], Mapping[str, str]]) -> None:
        self._kept = kept

    def of(self, inode: int) -> SocketHolder | None:
        """See ports_dragonfly.SocketHolders."""
        wanted = f"socket:[{inode}]"
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):  # another user's process, or one that ended
                if os.readlink(link) == wanted:
                    return self._holder(link.parent.parent)
        return None

    def _holder(self, process: Path) -> SocketHolder:
        """Raises OSError where it ended meanwhile."""
        argv = tuple(part.decode(errors="replace") for part in _head(process / "cmdline").split(b"\0"))
        unit = _unit(_head(process / "cgroup").decode(errors="replace"))
        return SocketHolder(int(process.name), argv[:-1], unit, self._kept(_head(process / "environ")))


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_CAP)


def _unit(table: str) -> str:
    """The service that a process's line of cgroup v2 names, else that of systemd's own v1 hierarchy."""
    paths = dict(line.split(":", 2)[1:] for line in table.splitlines() if line.count(":") >= 2)
    for hierarchy in ("", "name=systemd"):
        last = paths.get(hierarchy, "").rpartition("/")[2]
        if last.endswith(".service"):
            return last
    return ""
