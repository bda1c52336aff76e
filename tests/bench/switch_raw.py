"""Wrong bytes in uncompressed chunks: RAFS v6 has nothing to notice them by, so they reach the container.
Shown, not bounded: how many reads are wrong until the canary sees it, and that it goes on where only blobs
are hit.
"""

from __future__ import annotations

import time

from tests.bench import switch_faults as faults
from tests.bench.report import Goal, Row, row
from tests.bench.switch_rig import PAUSE_MS, REGISTRY, Fault, Rig
from tests.node import images, scene

IMAGE = "reader-raw-nydus"
_REF = f"{REGISTRY}/{IMAGE}:1"
_LASTS_S = 4.0


def rows(rig: Rig) -> tuple[list[Row], list[Goal]]:
    """One row for each form of the fault, the wrong reads as its errors; `doctor` must name the image."""
    rig.stop_readers()
    scene.pull(rig.node, _REF)
    with scene.Reader(rig.node, _REF, pause_ms=PAUSE_MS, files=images.READER_FILES, name="raw") as reader:
        reader.wait_for(5)
        found = [_one(rig, reader, fault) for fault in (faults.LIES[-1], faults.BLOB_LIES[-1])]
        told = scene.agent_json(rig.node, "doctor")["checks"][7]["detail"]
    scene.forget(rig.node, *rig.refs, _REF)
    rig.forgotten()
    unnamed = 0 if _REF.rpartition(":")[0] in told and "not compressed" in told else 1
    return found, [Goal("uncompressed images in use that doctor does not name", unnamed, 0, "images")]


def _one(rig: Rig, reader: scene.Reader, fault: Fault) -> Row:
    rig.fresh_agent()
    began = time.time()
    fault.begin(rig)
    time.sleep(_LASTS_S)
    fault.end(rig)
    ended = time.time()
    reader.wait_for(3)
    wrong = [read for read in reader.reads() if read.end >= began and read.error]
    last = (max(read.end for read in wrong) - began) * 1000 if wrong else 0.0
    return row(
        f"uncompressed image, {fault.name} for {_LASTS_S:g} s: until the last wrong read",
        [min(last, (ended - began) * 1000)],
        "ms",
        errors=len(wrong),
    )
