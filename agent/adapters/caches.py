"""What makes a start warm: the kernel's page cache, nydusd's blob cache.

And what the interfaces have received.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

from agent.adapters import directories
from agent.adapters.process import ChildProcesses
from agent.errors import FileError, ProcessError

_DROP = "/proc/sys/vm/drop_caches"
_INTERFACES = "/proc/self/net/dev"
_SYNC_S = 20.0
_BLOB = re.compile(r"[0-9a-f]{64}")


class NodeCaches:
    """The caches of this node. Only root may empty them."""

    def drop_pages(self) -> None:
        """See ports_bench.Caches. What is dirty is written first, because only clean pages can be dropped
        (proc(5)): by a child, so that a disk that others keep busy does not hold us for ever.
        """
        late = ""
        try:
            ChildProcesses().run(["sync"], deadline_s=_SYNC_S)
        except ProcessError as error:
            late = error.cause
        try:
            with directories.opened(_DROP, os.O_WRONLY | os.O_CLOEXEC) as descriptor:
                os.write(descriptor, b"3\n")
        except OSError as error:
            raise FileError(
                "NNA1701", "the page cache cannot be dropped", cause=f"{_DROP}: {error.strerror}"
            ) from None
        if late:
            raise FileError("NNA1701", "what was dirty stayed in the page cache", cause=f"sync: {late}")

    def cached(self, directory: str) -> frozenset[str]:
        """See ports_bench.Caches."""
        try:
            return frozenset(os.listdir(directory))
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise FileError("NNA1701", f"cannot list {directory}", cause=error.strerror or "") from None

    def remove_blob(self, directory: str, blob: str) -> None:
        """See ports_bench.Caches. Their names begin with the blob's (BLOB.blob.data, BLOB.blob.meta,
        BLOB.chunk_map); only regular files go.
        """
        if not _BLOB.fullmatch(blob):
            raise FileError("NNA1701", "no cache of a blob can be removed", cause=f"{blob!r} is no sha256")
        names = sorted(name for name in self.cached(directory) if name.startswith(blob))
        if not names:
            return
        try:
            with directories.directory(directory) as top:
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        if stat.S_ISREG(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                            os.unlink(name, dir_fd=top)
        except OSError as error:
            raise FileError(
                "NNA1701", f"cannot remove the cache of {blob}", cause=error.strerror or ""
            ) from None

    def room(self, directory: str) -> tuple[int, int]:
        """See ports_bench.Caches."""
        while True:
            try:
                seen = os.statvfs(directory)
                return seen.f_bavail * seen.f_frsize, seen.f_blocks * seen.f_frsize
            except FileNotFoundError:
                directory = os.path.dirname(directory)
            except OSError as error:
                cause = error.strerror or ""
                raise FileError("NNA1701", f"cannot tell the room below {directory}", cause=cause) from None

    def received(self) -> dict[str, int]:
        """See ports_bench.Caches. (proc_pid_net(5), net/dev: the first figure of a line.)"""
        with open(_INTERFACES) as table:
            lines = [line.partition(":") for line in table.read().splitlines() if ":" in line]
        return {name.strip(): int(figures.split()[0]) for name, _, figures in lines if name.strip() != "lo"}
