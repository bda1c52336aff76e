"""The memory that the footprint's bench shows is that of a node alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.bench import shared_pages

_MIB = 16
_PAIR = f"""
import mmap, os, sys
shared = mmap.mmap(-1, {_MIB} << 20)
told, tell = os.pipe()
other = os.fork()
for at in range(0, len(shared), 4096):
    shared[at] = 1
if other:
    os.read(told, 1)
    print(os.getpid(), other, flush=True)
else:
    os.write(tell, b"1")
sys.stdin.read()
"""


def test_a_page_that_two_processes_map_counts_half_for_each() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _PAIR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        both, one = shared_pages.pss_mib(pids, pids[0]), shared_pages.pss_mib(pids[:1], pids[0])
        resident = sum(_rss_mib(pid) for pid in pids)
        parent.communicate()
    assert _MIB < both < resident - _MIB
    assert both / 2 - 2 < one < both / 2 + 2


def _rss_mib(pid: int) -> float:
    found = re.search(r"^Rss: *(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024
