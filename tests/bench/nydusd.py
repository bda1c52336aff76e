"""`make bench-nydusd [NYDUSD=PROGRAM NYDUS_IMAGE=PROGRAM]`: what each lie of the mirror about blobs costs, by
nydusd.

nydusd decides what a bad answer means: 2.2.0 tries each again 0.4 to 1 s later, 2.4.3 and newer retry at once
and tell what a dfdaemon says by itself (header X-Dragonfly-Error-Type: proxy) from what it hands on. So each
status is given with and without the header, and each fault on all requests for blobs and on a tenth of them;
ping and canary are well.

The stage is that of bench-switch: two containers read cold files, about 60 reads a second each. One case: a
fresh agent, the fault for some seconds, the mirror mended. `behind the fence` counts reads that failed though
they began while the route was the origin; `last error` is when the last read that failed had ended, from the
fault on. A refusal (403 with the header) is not tried again by nydusd 2.4.3 and newer: reads that are in
flight until its first line was seen fail.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.bench.report import Goal, Row, publish, quick, row
from tests.bench.switch_faults import BLOBS
from tests.bench.switch_rig import Rig, staged
from tests.node import scene

METHOD = (
    "blobs only, two containers read cold files; ms from just before the fault (see tests/bench/nydusd.py)"
)
_STATUSES = (401, 403, 404, 416, 429, 500, 503)
_BODIES = (("zeros", "zeros"), ("cut", "cut"), ("half a body", "hang_body"))
_NYDUSD_TIMEOUT_S = 11.0


@dataclass(frozen=True)
class Case:
    """One fault."""

    name: str
    kind: str
    settings: dict[str, Any]

    @property
    def refusal(self) -> bool:
        """What nydusd 2.4.3 and newer do not try again."""
        return self.settings.get("status") == 403 and self.settings.get("error_type") == "proxy"


def cases() -> Iterator[Case]:
    """All faults, each on every request for a blob and on a tenth of them."""
    for each, part in ((1, ""), (10, ", a tenth")):
        for status in _STATUSES:
            for kind, said in (("proxy", ", dfdaemon's own"), ("", "")):
                settings = {"status": status, "error_type": kind, "each": each}
                yield Case(f"{status}{said}{part}", "status", settings)
        for name, kind in _BODIES:
            yield Case(f"{name}{part}", kind, {"each": each})


def main() -> int:
    """Measure and publish."""
    small = quick()
    given = os.environ.get("NYDUSD", "")
    print(__doc__, f"\nnydusd: {given or 'the one of the tests'}", flush=True)
    rows: list[Row] = []
    goals: list[Goal] = []
    with staged() as rig:
        rig.start_readers()
        for case in cases():
            found = _measured(rig, case, 3.0 if small else 6.0)
            rows.append(found)
            print(
                f"{found.case}: slowest {found.max:.0f} ms, {found.errors} errors, {dict(found.extra)}",
                flush=True,
            )
            goals.append(
                Goal(f"{case.name}: errors behind the fence", float(found.extra["behind the fence"]), 0, "")
            )
            if not case.refusal:
                goals.append(Goal(f"{case.name}: errors", found.errors, 0, ""))
    return publish("nydusd-given" if given else "nydusd", METHOD, rows, quick=small, goals=goals)


def _measured(rig: Rig, case: Case, fault_s: float) -> Row:
    rig.settle()
    lasts_s = max(fault_s, _NYDUSD_TIMEOUT_S if case.kind == "hang_body" else 0.0)
    began = time.time()
    rig.mirror.fault(case.kind, match=BLOBS, **case.settings)
    time.sleep(lasts_s)
    rig.mirror.fault()
    mended = time.time()
    rig.wait(lambda: rig.served_since(mended) >= 1, 75, f"{case.name} is over: reads go on")
    history = [entry for entry in rig.status()["history"] if entry["at"] >= began]
    reads = [read for each in rig.ended_since(began) for read in each]
    rig.count_errors()
    failed = [read for read in reads if read.error]
    routed = [entry["at"] for entry in history if entry["route"] == "origin"]
    extra: dict[str, float | str] = {
        "reads": len(reads),
        "route": round((routed[0] - began) * 1000) if routed else "stays",
        "behind the fence": sum(_behind(read, history) for read in failed),
        "last error": round((max(read.end for read in failed) - began) * 1000) if failed else "",
    }
    return row(case.name, [read.ms for read in reads], "ms", errors=len(failed), extra=extra)


def _behind(read: scene.Read, history: list[dict[str, Any]]) -> bool:
    """Whether the route was the origin from before a read began until it ended."""
    before = [entry["route"] for entry in history if entry["at"] <= read.at]
    during = {entry["route"] for entry in history if read.at < entry["at"] <= read.end}
    return before[-1:] == ["origin"] and during <= {"origin"}


if __name__ == "__main__":
    sys.exit(main())
