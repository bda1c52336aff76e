"""What became of the nodes of many rounds: counts, and the first things that went wrong in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.bench.report import Row, row

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
