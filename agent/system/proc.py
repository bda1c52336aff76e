"""Who runs what and who holds what, as the kernel knows it (proc(5), fcntl(2))."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.errors import FileError, ProcessError
from agent.ports import RunningProgram, SocketHolder
from agent.system.walk import digest_of

_DELETED = " (deleted)"


def seen(pid: int) -> RunningProgram | None:
    """See ports.Processes.program."""
    link = _look(pid, os.readlink)
    if link is None:
        return None
    path = link.removesuffix(_DELETED)
    return RunningProgram(path, replaced=path != link)


def sha256(pid: int) -> str | None:
    """See ports.Processes.program_sha256."""
    return _look(pid, _digest)


def _look(pid: int, how: Callable[[str], str]) -> str | None:
    """None where the process has ended. Raises ProcessError where it lives and may not be looked at."""
    try:
        return how(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except (OSError, FileError) as error:
        cause = error.cause if isinstance(error, FileError) else error.strerror or str(error)
        raise ProcessError("NNA0221", f"cannot see what process {pid} runs", cause=cause) from error


def _digest(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return digest_of(descriptor, path)
    finally:
        os.close(descriptor)


_CAP = 64 << 10


class ProcHolders:
    """By /proc: the processes of other users only root may see.

    `kept` takes what is wanted out of /proc/PID/environ, which may hold secrets.
    """

    def __init__(self, kept: Callable[[bytes], Mapping[str, str]]) -> None:
        self._kept = kept

    def of(self, inode: int) -> SocketHolder | None:
        """See ports.SocketHolders."""
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


_FLOCK = "hhqqi4x"
"""struct flock of Linux on 64-bit machines (fcntl.h): type, whence, start, length, pid."""


class DpkgFrontend:
    """The frontend lock below `root`, which apt holds across all its runs of dpkg (dpkg(1), "lock-frontend"):
    a POSIX record lock, so flock(1) would not see it.
    """

    def __init__(self, root: str = "/") -> None:
        self._path = os.path.join(root, "var/lib/dpkg/lock-frontend")

    def holder(self) -> int | None:
        """See ports.PackageManager. Nobody holds a lock file that is not there."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        finally:
            os.close(descriptor)
        return None if kind == fcntl.F_UNLCK else int(pid)
