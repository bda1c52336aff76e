"""`make bench-crash-tree`: the transaction killed, failed and cut off by power, on a tree of real files.

Method: tests.bench.survival. Each verb runs in a process of its own below a root directory, with the real plan,
executor, journal, generations and file adapters; systemd and containerd are fakes whose state outlives the process.
It is killed at random moments and before each call that changes files, each such call is failed with each error that it
can end with, and from the recorded calls every tree that may be found after a power cut is made and booted.
`tests.bench.crash` adds what only a booted node can show, and is the bench to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.report import quick
from tests.bench.survival import boundaries, kills, powercut, run
from tests.bench.survival.tally import Tally, measure

METHOD = "a tree of real files; processes killed (SIGKILL), failed (seccomp), power cut; times are those of recover"
SEED = 2026


@dataclass(frozen=True)
class Size:
    """How much of it."""

    random: int
    """Kills at random for each verb."""
    every: int
    """Every how manyth boundary."""


FULL = Size(random=360, every=1)
QUICK = Size(random=18, every=8)


def main() -> int:
    """Run, publish, and say what went wrong."""
    small = quick()
    size = QUICK if small else FULL
    return measure("crash-tree", METHOD, "nodes", lambda scratch: rounds(size, scratch), quick=small)


def rounds(size: Size, scratch: Path) -> Iterator[Tally]:
    """All rounds of all verbs."""
    for name in run.NAMES:
        scenario = run.prepare(name, scratch)
        yield from kills.kill_at_random(scenario, size.random, scratch, SEED)
        yield boundaries.kill_before_each(scenario, scratch, size.every)
        yield from boundaries.fail_each(scenario, scratch, size.every)
        yield from powercut.cut_power(scenario, scratch, size.every, SEED)


if __name__ == "__main__":
    raise SystemExit(main())
