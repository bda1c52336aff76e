"""For comparison in the same run: nydusd without us, with the JSON that the page on Nydus asks for (the
operator's ping_url; `switch = "native"` renders it), the agent stopped, the same mounts, readers and faults.
"""

from __future__ import annotations

import time

from tests.bench import switch_faults as faults
from tests.bench.report import Row, row
from tests.bench.switch_rig import Fault, Rig

CASES = (
    faults.KILLED,
    faults.FROZEN,
    faults.FROZEN_IN_BODY,
    faults.BLACK_HOLE,
    *faults.BLOB_LIES,
    faults.UNSEEN[1],
)
_QUICK = (faults.BLOB_LIES[1],)
_PATIENCE_S, _QUICK_S = 20.0, 3.0
"""How long each fault lasts: nydusd's timeout is 10 s, its retries of a refused read take 7 s. The quick form
only shows that reads stand still.
"""
_MENDED_S = 75.0


def rows(rig: Rig, *, quick: bool) -> list[Row]:
    """One row a fault: the longest stall of each reader, and the errors that the containers saw."""
    ours = len(rig.errors)
    rig.fenced = False
    rig.configure('[mirror]\nswitch = "native"\n')
    rig.stop_agent()
    rig.start_readers()
    try:
        return [
            _one(rig, fault, _QUICK_S if quick else _PATIENCE_S) for fault in (_QUICK if quick else CASES)
        ]
    finally:
        rig.forgive(ours)
        rig.configure("")
        rig.fenced = True
        rig.stop_readers()


def _one(rig: Rig, fault: Fault, patience_s: float) -> Row:
    rig.settle()
    if fault.prelude is not None:
        fault.prelude(rig)
    began = time.time()
    fault.begin(rig)
    time.sleep(patience_s)
    ended = time.time()
    stalls, unfinished = [], 0
    for all_reads, reads in zip(rig.all_reads(), rig.ended_since(began), strict=True):
        waits = (
            ended - all_reads[-1].end
        ) * 1000  # of a read that has not ended: since the one before it did
        unfinished += waits > 1000
        stalls.append(max([read.ms for read in reads] + ([waits] if waits > 1000 else [])))
    fault.end(rig)
    mended = time.time()
    rig.wait(lambda: all(rig.ended_since(mended)), _MENDED_S, f"nydusd alone, {fault.name}: reads go on")
    errors = rig.count_errors()
    extra: dict[str, float | str] = {"unfinished": unfinished} if unfinished else {}
    case = f"nydusd alone, {fault.name}: longest stall in {patience_s:g} s"
    return row(case, stalls, "ms", errors=errors, extra=extra)
