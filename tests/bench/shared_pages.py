"""What memory of some processes would count for (PSS) if their node were alone on the machine. The kernel's
own PSS divides a page of a program or library by all who map it, and the other nodes of a test machine lie on
the same files: the same daemon was seen to have 18.9 MiB beside four nodes and 24.6 beside none.
"""

from __future__ import annotations

import array
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

_PAGE = 4096
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst


def pss_mib(pids: Sequence[int], leader: int) -> float:
    """MiB of these processes, each page divided by the processes of `leader`'s pid namespace that map it.

    Raises PermissionError where the kernel hides the frames' numbers (CAP_SYS_ADMIN).
    """
    mapped: Counter[int] = Counter()
    ours: list[int] = []
    for pid in _beside(leader):
        frames = set(_frames(pid))
        mapped.update(frames)
        if pid in pids:
            ours += frames
    if not ours or ours == [0] * len(ours):
        raise PermissionError("/proc/PID/pagemap tells no frames: CAP_SYS_ADMIN is missing")
    return sum(1 / mapped[frame] for frame in ours) * _PAGE / (1 << 20)


def _beside(leader: int) -> list[int]:
    """All processes of the pid namespace."""
    namespace = os.readlink(f"/proc/{leader}/ns/pid")
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _namespace(pid) == namespace]


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:  # it has ended
        return ""


def _frames(pid: int) -> Iterator[int]:
    """The page frames that a process maps; none where it has ended."""
    try:
        areas = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            for area in areas:
                first, last = (int(end, 16) // _PAGE for end in area.split(maxsplit=1)[0].split("-"))
                if not area.endswith("[vsyscall]"):
                    pagemap.seek(8 * first)
                    entries = array.array("Q", pagemap.read(8 * (last - first)))
                    yield from (entry & _FRAME for entry in entries if entry & _PRESENT)
    except OSError:
        return
