"""`make bench-configs`: what a real containerd does of a plan, whatever files and units others have written.

Method: tests.unit.containerd_worlds makes files and units by chance. The product's code plans each, and what
it plans is written. Then the containerd of that version is started as its unit starts it, and asked
(tests.contract.live_containerd). It does what the plan said, or the plan was refused. The name of a world
makes it again: `IN_ROOT_NET=none tests/in-root python3 -m tests.bench.configs 2.1.9/17`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.bench.report import Goal, Row, publish, quick, row
from tests.contract.live_containerd import Verdict, verdicts
from tests.unit.containerd_worlds import VERSIONS

METHOD = "files and units by chance; a real containerd on what the plan wrote; times are those of one world"
WORLDS, QUICK_WORLDS = 300, 30


def main() -> int:
    """Look at all worlds and publish; or at those that are named."""
    if names := [word for word in sys.argv[1:] if "/" in word]:
        wrong = 0
        for version, number in (name.split("/") for name in names):
            for verdict in verdicts(version, range(int(number), int(number) + 1)):
                print(f"{verdict.world.told()}\nrefused: {verdict.refused}\nwrong: {verdict.wrong}")
                wrong += bool(verdict.wrong)
        return int(wrong > 0)
    small = quick()
    rows = [_row(version, QUICK_WORLDS if small else WORLDS) for version in VERSIONS]
    wrong = sum(one.errors for one in rows)
    goal = Goal("worlds in which containerd does other than was planned", wrong, 0, "worlds")
    return publish("configs", METHOD, rows, quick=small, goals=[goal])


def _row(version: str, worlds: int) -> Row:
    counts: Counter[str] = Counter({"right": 0, "wrong": 0})
    seconds, began = [], time.monotonic()
    for verdict in verdicts(version, range(worlds)):
        counts[_kind(verdict)] += 1
        seconds.append(time.monotonic() - began)
        began = time.monotonic()
        if verdict.wrong:
            print(f"{verdict.world.told()}\n{verdict.wrong}", flush=True)
    print(f"worlds {version}/0 to {version}/{worlds - 1}: {dict(counts)}", flush=True)
    return row(version, seconds, "s", errors=counts["wrong"], extra=dict(sorted(counts.items())))


def _kind(verdict: Verdict) -> str:
    if verdict.wrong:
        return "wrong"
    return f"refused {verdict.refused.split()[0]}" if verdict.refused else "right"


if __name__ == "__main__":
    raise SystemExit(main())
