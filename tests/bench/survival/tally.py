"""What became of the nodes of many rounds: counts, and the first things that went wrong in words."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.report import Row, row
from tests.bench.survival import picture, run
from tests.bench.survival.run import Act, Child, Scenario
from tests.bench.survival.stage import Stage

_SHOWN = 5


@dataclass
class Tally:
    """Of one kind of round."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    recoveries_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def judge(self, scenario: Scenario, root: Path, where: str) -> str:
        """Count the node as before, after or mixed."""
        verdict, why = scenario.verdict(root)
        found = [why] if why else []
        found += Stage(root).unsafe
        if found:
            self.mixed(where, "; ".join(found))
            return "mixed"
        self.counts[verdict] += 1
        return verdict

    def mixed(self, where: str, why: str) -> None:
        """A node that is neither, or was unsafe on the way."""
        self.counts["mixed"] += 1
        self.wrong.append(f"{self.name}, {where}: {why}")

    def recovered(self, root: Path, where: str, recover: Act = Stage.recover) -> bool:
        """Run `recover` to its end; False (and counted as mixed) where it could not."""
        began = time.monotonic()
        ended = Child(root, recover).wait()
        self.recoveries_ms.append((time.monotonic() - began) * 1000)
        if ended != run.OK:
            self.mixed(where, f"recover ended with {ended}: {run.said(root)[-600:]}")
        return ended == run.OK

    def safe(self, root: Path, where: str) -> bool:
        """Whether a boot without us would find a node that can start pods; else it is counted as mixed."""
        why = picture.unsafe(root)
        if why:
            self.mixed(where, f"right after it: {why}")
        return not why

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
