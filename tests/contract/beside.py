"""A process beside the one that a test is about, for what must not share its memory, its descriptors or its
end.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(serve: Callable[[int], object]) -> Iterator[tuple[int, list[int]]]:
    """`serve` runs in a child and writes its ports, as JSON, to the descriptor that it is given. The child's
    id, which is killed at the end, and its ports.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            serve(write)
        finally:
            os._exit(1)
    try:
        yield child, json.loads(os.read(read, 1000))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
