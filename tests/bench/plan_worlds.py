"""`make bench-plan-worlds`: every node of a small world, each change on it looked at by steps and failed at
each act.

Method: tests.unit.small_worlds, on nodes of fakes. The world is the product of containerd's configurations,
files of others that are in the way, states of the snapshotter's unit, versions, modes and switches. On each
node: apply, apply another configuration, roll back, remove; after each step the rules hold, each ends in a
plan that is empty, and an error at any act leaves the node before or after. The full form takes about a
quarter of an hour of processor time.
"""

from __future__ import annotations

import time

from tests.bench.report import Goal, publish, quick, row
from tests.unit.small_worlds import Findings, explore, worlds

METHOD = "exhaustive, on nodes of fakes; times are those of one world"
_QUICK_EVERY = 97


def main() -> int:
    """Explore and publish."""
    small = quick()
    found, seconds = Findings(), []
    for world in list(worlds())[:: _QUICK_EVERY if small else 1]:
        began = time.monotonic()
        explore(world, found)
        seconds.append(time.monotonic() - began)
    for line in found.wrong[:10]:
        print(line, flush=True)
    counts = {name: float(count) for name, count in sorted(found.counts.items())}
    wrong = len(found.wrong)
    goals = [Goal("rules that did not hold", wrong, 0, "rules")]
    return publish("plan-worlds", METHOD, [row("worlds", seconds, "s", errors=wrong, extra=counts)],
                   quick=small,
                   goals=goals)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
