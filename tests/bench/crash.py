"""`make bench-crash`: changes killed and failed; after each the node is before or after, never mixed.

Method: most of it on a tree of real files in the build root (tests.bench.crash_tree), where a round takes a
tenth of a second; the others on a booted node with real restarts and a real containerd
(tests.bench.survival.node). Times are those of `recover`. The quick form takes about two minutes, the full
one about a quarter of an hour on two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.report import DIRECTORY, Goal, Row, publish, quick
from tests.bench.survival import node
from tests.bench.survival.tally import tell

METHOD = "real processes killed on a tree of real files and on a booted node; times are those of recover"
ROUNDS, QUICK_ROUNDS = 64, 10
SEED = 2026
_TREE_S = 2400.0
_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run both parts and publish."""
    small = quick()
    began = time.monotonic()
    rows = _on_a_tree(small=small)
    with node.installed() as booted:
        tallies = node.rounds(booted, QUICK_ROUNDS if small else ROUNDS, SEED)
    rows += [tally.row() for tally in tallies]
    tell(tallies)
    wall = time.monotonic() - began
    killed = sum(_count(row, "killed") + _count(row, "recovery killed") for row in rows)
    print(
        f"{killed:.0f} kills, {sum(_count(row, 'trees') for row in rows):.0f} trees after a power cut, "
        f"{wall:.0f} s"
    )
    return publish("crash", METHOD, rows, quick=small, goals=_goals(rows, killed, small=small))


def _on_a_tree(*, small: bool) -> list[Row]:
    words = ["tests/in-root", "python3", "-m", "tests.bench.crash_tree", *(["--quick"] if small else [])]
    written = DIRECTORY / f"crash-tree{'-quick' if small else ''}.json"
    written.unlink(missing_ok=True)
    environ = {**os.environ, "IN_ROOT_NET": "none"}
    subprocess.run(words, cwd=_ROOT, env=environ, stdin=subprocess.DEVNULL, check=False, timeout=_TREE_S)
    if not written.exists():
        sys.exit("the rounds on a tree of files did not come to their end")
    found: list[dict[str, Any]] = json.loads(written.read_text())["rows"]
    return [Row(**row) for row in found]


def _count(row: Row, name: str) -> float:
    return float(row.extra.get(name, 0))


def _goals(rows: list[Row], killed: float, *, small: bool) -> list[Goal]:
    started = sum(_count(row, "containerd started") for row in rows)
    return [
        Goal("nodes that are neither before nor after", sum(row.errors for row in rows), 0, "nodes"),
        Goal("kills that are missing of 1,000", max(0, (0 if small else 1000) - killed), 0, "kills"),
        Goal(
            "rounds on a booted node that are missing",
            (QUICK_ROUNDS if small else ROUNDS) - started,
            0,
            "rounds",
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
