"""What became of the nodes of many rounds: counts, and the first things that went wrong in words."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.report import Goal, Row, publish, row

_SHOWN = 5


@dataclass
class Tally:
    """Of one kind of round."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    recoveries_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def mixed(self, where: str, why: str) -> None:
        """A node that is neither, or was unsafe on the way."""
        self.counts["mixed"] += 1
        self.wrong.append(f"{self.name}, {where}: {why}")

    @property
    def bad(self) -> int:
        """Rounds after which the node was neither before nor after."""
        return self.counts["mixed"]

    def row(self) -> Row:
        """For the table: times are those of `recover`."""
        counted = {name: float(self.counts[name]) for name in ("before", "after", "mixed")}
        others = {name: float(count) for name, count in sorted(self.counts.items()) if name not in counted}
        return row(self.name, self.recoveries_ms, "ms", errors=self.bad, extra={**counted, **others})

    def story(self) -> list[str]:
        """The first things that went wrong."""
        return self.wrong[:_SHOWN]


def tell(tallies: Iterable[Tally]) -> None:
    """Say what went wrong."""
    for tally in tallies:
        for line in tally.story():
            print(line, flush=True)


def measure(
    name: str, method: str, what: str, rounds: Callable[[Path], Iterable[Tally]], *, quick: bool
) -> int:
    """Go the rounds in a scratch directory, publish them, and say what went wrong; the exit status.

    `what` is on trial: not one of them may be mixed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        tallies = list(rounds(Path(scratch)))
    tell(tallies)
    killed = sum(tally.counts["killed"] + tally.counts["recovery killed"] for tally in tallies)
    print(f"{killed} kills, {time.monotonic() - began:.0f} s")
    goals = [Goal(f"{what} that are neither before nor after", sum(tally.bad for tally in tallies), 0, what)]
    return publish(name, method, [tally.row() for tally in tallies], quick=quick, goals=goals)
