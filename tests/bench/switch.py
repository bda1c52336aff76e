"""`make bench-switch`: what a container that reads from a nydus mount notices when the mirror dies, hangs or
lies.

Method. One booted node: containerd, snapshotter, nydusd, registry and a stand-in for dfdaemon's ports are
real processes in it; the package is installed and applied. Two containers read cold files of 16 KiB from two
nydus images (zstd) for as long as the run lasts, about 60 reads a second each; that they are cold is checked
before each outage (requests for blobs that reach the mirror, per read). An outage: a fresh agent (else three
outages keep the route at the origin for minutes), the fault, at least three more reads of each container, the
mirror mended. The clock starts just before the fault is brought about (a signal or a message sent from the
machine, not by a program on the node).

first read     until the end of the first read that only the origin can have served: it began when the fault
was in
               force, and the fault hits all requests for blobs
in flight      until the end of the last read that was in flight when the fault came
slowest read   the longest read of the outage, counted from its own beginning

"Blobs only": the mirror lies to requests for blobs and is well for all else, so ping and canary are good and
nothing but the symptoms of real reads can tell. Silence on blobs only has no symptom: nydusd's own timeout
(10 s) ends it; it is shown without a bound. Every read checks its content; `errors` are reads that failed or
were wrong.

The same with three busy loops on two cores, and containerd's plain pulls, in the same run.
Exit status 1 when a bound is missed or any read of ours failed. About 35 minutes; `--quick` 4.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.bench import switch_faults as faults
from tests.bench import switch_pull, switch_return
from tests.bench.report import Goal, Row, publish, quick, row
from tests.bench.switch_rig import Fault, Outage, Rig, staged
from tests.node import stock

METHOD = (
    "two containers read cold files all the time; ms from just before the fault to the end of the first read "
    "that only the origin can have served, of the reads in flight, and the slowest read (see "
    "tests/bench/switch.py)"
)
_ENOUGH = 100
_FIRST_MS, _CUT_MS, _FREEZE_MS, _BODY_MS, _LIE_MS, _BUSY_MS = 50, 600, 900, 1600, 3000, 300


@dataclass
class Report:
    """What was found so far."""

    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def add(self, found: tuple[list[Row], list[Goal]]) -> None:
        self.rows += found[0]
        self.goals += found[1]
        for entry in found[0]:
            figures = (
                f"n {entry.n}, p50 {entry.p50:.1f}, max {entry.max:.1f} {entry.unit}, {entry.errors} errors"
            )
            self.say(
                f"{entry.case}: {figures} {' '.join(f'{key} {value}' for key, value in entry.extra.items())}"
            )


def main() -> int:
    """Measure and publish."""
    small, report = quick(), Report()
    print(__doc__, flush=True)
    with staged(more=(switch_pull.IMAGE,)) as rig:
        report.say("the node is set up")
        rig.start_readers()
        _proxy(rig, report, quick=small)
        total = row("blob requests at the mirror for each read, mirror well", rig.cold, "requests")
        report.rows.append(total)
        report.goals += [Goal("read errors", len(rig.errors), 0, "errors"), _cold(rig)]
        report.say(f"{rig.reads} reads, {len(rig.errors)} errors: {rig.errors[:5]}")
    if stock.given_version() >= (2, 3, 5):
        report.say("this nydusd has no mirrors dialect: that part is left out")
        return publish("switch", METHOD, report.rows, quick=small, goals=report.goals)
    with staged(dialect="mirrors", snapshotter="0.13.4") as rig:
        report.say("the node with the mirrors dialect is set up")
        rig.start_readers()
        _mirrors(rig, report, 2 if small else 10)
        report.goals += [Goal("read errors, mirrors dialect", len(rig.errors), 0, "errors"), _cold(rig)]
    return publish("switch", METHOD, report.rows, quick=small, goals=report.goals)


def _cold(rig: Rig) -> Goal:
    return Goal(
        "reads for each request at the mirror, mirror well", 1 / max(min(rig.cold), 0.01), 1.6, "reads"
    )


def _proxy(rig: Rig, report: Report, *, quick: bool) -> None:
    deaths, others, busy = (5, 2, 2) if quick else (100, 30, 30)
    report.add(deadly(rig, deaths, others))
    for fault in (faults.BLACK_HOLE, faults.SILENT, faults.TRICKLE, *faults.LIES, *faults.BLOB_LIES):
        split = fault not in (faults.BLACK_HOLE, faults.SILENT, faults.TRICKLE)
        report.add(lie(rig, fault, max(1, others // 2) if split else others))
    for fault in faults.UNSEEN:
        report.add(unseen(rig, fault, 1 if quick else 3))
    with faults.busy(rig):
        report.say("three loops keep the cores busy")
        for fault in (faults.KILLED, faults.FROZEN, faults.BLOB_LIES[1]):
            report.add(on_busy_cores(rig, fault, busy))
    report.add(switch_return.returns(rig, 1 if quick else 10))
    report.add(switch_return.flaps(rig, 5 if quick else 20))
    report.add(switch_return.origin_down_too(rig, (3.0,) if quick else (1.0, 3.0, 5.0) * 2))
    report.add(switch_pull.rows(rig, quick=quick))


def _mirrors(rig: Rig, report: Report, count: int) -> None:
    for fault, limit in (
        (faults.KILLED, _CUT_MS),
        (faults.FROZEN, _FREEZE_MS),
        (faults.BLOB_LIES[1], _LIE_MS),
    ):
        found = _outages(rig, fault, count)
        what = f"mirrors dialect, {fault.name}: slowest read"
        slowest = _row(what, found, lambda outage: outage.slowest)
        report.add(([slowest], [Goal(what, slowest.max, limit, "ms")]))


def _outages(rig: Rig, fault: Fault, count: int) -> tuple[list[Outage], int]:
    before = len(rig.errors)
    found = [rig.outage(fault) for _ in range(count)]
    return found, len(rig.errors) - before


def _row(what: str, found: tuple[Sequence[Outage], int], value: Callable[[Outage], float | None]) -> Row:
    outages, errors = found
    return row(what, _values(outages, value), "ms", errors=errors, extra=_routed(outages))


def _values(outages: Iterable[Outage], value: Callable[[Outage], float | None]) -> list[float]:
    return [figure for outage in outages if (figure := value(outage)) is not None]


def _routed(outages: Sequence[Outage]) -> dict[str, float | str]:
    """How long until the route was origin, where it was."""
    routed = sorted(_values(outages, lambda outage: outage.routed))
    return {"route, p50": round(routed[len(routed) // 2], 1)} if routed else {}


def deadly(rig: Rig, deaths: int, others: int) -> tuple[list[Row], list[Goal]]:
    """Killed and frozen, before the answer and within the body."""
    killed = _outages(rig, faults.KILLED, deaths)
    cut = _outages(rig, faults.KILLED_IN_BODY, others)
    frozen = _outages(rig, faults.FROZEN, deaths)
    stuck = _outages(rig, faults.FROZEN_IN_BODY, others)
    rows = [
        _row("killed: first read from the origin", killed, lambda outage: outage.first),
        _row("killed: slowest read", killed, lambda outage: outage.slowest),
        _row("killed while reads are in a body: in flight", cut, lambda outage: outage.in_flight),
        _row("frozen while reads wait for an answer: first read", frozen, lambda outage: outage.first),
        _row("frozen while reads wait for an answer: in flight", frozen, lambda outage: outage.in_flight),
        _row("frozen while reads are in a body: in flight", stuck, lambda outage: outage.in_flight),
    ]
    limits = (_FIRST_MS, _CUT_MS, _CUT_MS, _FREEZE_MS, _FREEZE_MS, _BODY_MS)
    goals = [
        Goal(f"{entry.case}, p99", entry.p99, limit, "ms") for entry, limit in zip(rows, limits, strict=True)
    ]
    if deaths < _ENOUGH:
        # Of few values the worst is no 99th percentile: one that the machine delayed decides nothing.
        goals[0] = Goal(f"{rows[0].case}, p50", rows[0].p50, _FIRST_MS, "ms")
    return rows, goals


def lie(rig: Rig, fault: Fault, count: int) -> tuple[list[Row], list[Goal]]:
    """A fault that must be over for every read within 3 s."""
    found = _outages(rig, fault, count)
    slowest = _row(f"{fault.name}: slowest read", found, lambda outage: outage.slowest)
    return [slowest], [Goal(slowest.case, slowest.max, _LIE_MS, "ms")]


def unseen(rig: Rig, fault: Fault, count: int) -> tuple[list[Row], list[Goal]]:
    """What only nydusd's timeout ends: no bound but 0 errors."""
    found = _outages(rig, fault, count)
    return [_row(f"{fault.name}: slowest read (no bound)", found, lambda outage: outage.slowest)], []


def on_busy_cores(rig: Rig, fault: Fault, count: int) -> tuple[list[Row], list[Goal]]:
    """Within the window that the daemon has adapted to, and 300 ms; a lie within its 3 s and what the window
    grew.
    """
    found = _outages(rig, fault, count)
    slack = _BUSY_MS if fault in (faults.KILLED, faults.FROZEN) else _LIE_MS - _FREEZE_MS + 2 * _BUSY_MS
    died = fault is faults.KILLED
    values = [outage.first if died else outage.in_flight or outage.slowest for outage in found[0]]
    what = f"cores busy, {fault.name}: {'first read from the origin' if died else 'in flight'}"
    windows = [outage.window for outage in found[0]]
    extra = {**_routed(found[0]), "window, max": max(windows)}
    beyond = max(value - window for value, window in zip(values, windows, strict=True))
    return [row(what, values, "ms", errors=found[1], extra=extra)], [
        Goal(f"{what}, beyond the window", beyond, slack, "ms")
    ]


if __name__ == "__main__":
    sys.exit(main())
