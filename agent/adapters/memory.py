"""The daemon's memory: what it uses stays (mlock(2)), because the way to the origin must not wait for a disk;
what it has freed goes.

A node that runs out of memory throws program code away first, because it can be read again; on a busy disk
that took another watchdog of this kind half a minute. MemoryMin= in the unit protects what is charged to our
cgroup, but pages of Python and of libraries are charged to whoever read them first.
"""

from __future__ import annotations

import ctypes
import resource

_CURRENT, _FUTURE, _ON_FAULT = 1, 2, 4  # include/uapi/asm-generic/mman.h
_MMAP_THRESHOLD, _MMAP_BYTES = -3, 128 << 10  # mallopt(3), and what it begins with


def keep_resident(limit: int | None = None) -> bool:
    """Lock every page that was or will be touched, and no others: that needs no more memory than without.

    False where there is a limit (RLIMIT_MEMLOCK, unless one is given), with which later allocations would
    fail: LimitMEMLOCK=infinity it takes, and no right.
    """
    if (resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if limit is None else limit) != resource.RLIM_INFINITY:
        return False
    return bool(ctypes.CDLL(None).mlockall(_CURRENT | _FUTURE | _ON_FAULT) == 0)


def give_back() -> None:
    """Have malloc give large pieces back to the system when they are freed. By default it keeps the more the
    larger they were: 1.2 MB after libnftables has made the table. To set the threshold, even to what it is,
    ends that.
    """
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
