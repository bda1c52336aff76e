"""A network namespace for the length of a test: what happens in it (fences, listeners) reaches nobody
else.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


@contextmanager
def own_network() -> Iterator[None]:
    """This thread moves into a new network namespace with its loopback up, and back. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)  # Python has unshare and setns from 3.12 on
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _succeed(libc.unshare(_NEW_NETWORK))
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=60)
        yield
    finally:
        _succeed(libc.setns(home, _NEW_NETWORK))
        os.close(home)


def _succeed(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
