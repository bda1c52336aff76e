"""A network namespace for the length of a test: what happens in it (fences, listeners) reaches nobody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_network() -> Iterator[None]:
    """This thread moves into a new network namespace with its loopback up, and back. Needs root."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.unshare(os.CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
        yield
    finally:
        os.setns(home, os.CLONE_NEWNET)
        os.close(home)
