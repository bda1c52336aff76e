"""The same function for many items, on all processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNKS_EACH = 4


def each(function: Callable[[Item], Result], items: Iterable[Item], *, worth_it: int = 1000) -> list[Result]:
    """The results in the order of the items. The function draws from a generator that it seeds by its item,
    so that the results do not depend on how many processors there are. Fewer items than `worth_it` are done
    in turn here.
    """
    listed = list(items)
    if len(listed) < worth_it:
        return [function(item) for item in listed]
    processors = len(os.sched_getaffinity(0))
    chunk = max(1, len(listed) // (processors * _CHUNKS_EACH))
    with ProcessPoolExecutor(processors) as pool:
        return list(pool.map(function, listed, chunksize=chunk))
