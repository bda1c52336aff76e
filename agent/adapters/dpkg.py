"""Whether a package manager is at work: the lock that dpkg and apt hold from their first change to their
last.
"""

from __future__ import annotations

import fcntl
import os
import struct

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
