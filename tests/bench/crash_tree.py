"""`make bench-crash-tree`: the transaction killed, failed and cut off by power, on a tree of real files.

Method: tests.bench.survival. Each verb runs in a process of its own below a root directory, with the real
plan, executor, journal, generations and file adapters; systemd and containerd are fakes whose state outlives
the process. It is killed at random moments and before each call that changes files, each such call is failed
with each error that it can end with, and from the recorded calls every tree that may be found after a power
cut is made and booted. `tests.bench.crash` adds what only a booted node can show, and is the bench to run.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.report import quick
from tests.bench.survival import boundaries, kills, powercut, run
from tests.bench.survival.tally import Tally, measure

METHOD = (
    "a tree of real files; processes killed (SIGKILL), failed (seccomp), power cut; times are those of "
    "recover"
)
SEED = 2026


@dataclass(frozen=True)
class Size:
    """How much of it."""

    random: int
    """Kills at random for each verb."""
    every: int
    """Every how manyth boundary."""


FULL = Size(random=360, every=1)
QUICK = Size(random=18, every=12)


def main() -> int:
    """Run, publish, and say what went wrong."""
    small = quick()
    size = QUICK if small else FULL
    return measure("crash-tree", METHOD, "nodes", lambda scratch: rounds(size, scratch), quick=small)


def rounds(size: Size, scratch: Path) -> Iterator[Tally]:
    """All rounds of all verbs. In the quick form, whose times nobody reads, a verb for each core."""
    cores = len(os.sched_getaffinity(0)) if size is QUICK else 1
    # Spawned: what is killed is forked, and must not be where the pool has threads.
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        for tallies in pool.map(partial(_of_verb, size, scratch), run.NAMES):
            yield from tallies


def _of_verb(size: Size, scratch: Path, name: str) -> list[Tally]:
    place = scratch / name
    place.mkdir()
    scenario = run.prepare(name, place)
    return [
        *kills.kill_at_random(scenario, size.random, place, SEED),
        boundaries.kill_before_each(scenario, place, size.every),
        *boundaries.fail_each(scenario, place, size.every),
        *powercut.cut_power(scenario, place, size.every, SEED),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
