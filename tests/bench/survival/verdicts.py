"""What became of a node that is a tree of files: recovered, safe meanwhile, before or after or mixed."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.survival import picture, run
from tests.bench.survival.run import Act, Child, Scenario
from tests.bench.survival.stage import Stage
from tests.bench.survival.tally import Tally


class TreeTally(Tally):
    """Counts nodes of one scenario."""

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
