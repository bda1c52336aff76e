"""containerd's plain pull (`crictl pull` through certs.d) on a mirror that hangs, with and without us."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

from tests.bench import switch_faults as faults
from tests.bench.report import Goal, Row, row
from tests.bench.switch_rig import REGISTRY, Rig
from tests.node import images
from tests.node.boot import NodeError

IMAGE = "reader"
_REF = f"{REGISTRY}/{IMAGE}:1"
_PATIENCE_S, _ALONE_S, _QUICK_S = 90.0, 60.0, 6.0
_RATE = 2_000_000
"""Bytes a second at which the mirror sends the layer before it freezes: 90 MB are under way for long
enough.
"""


@dataclass(frozen=True)
class Pull:
    """What became of a pull that met the fault: seconds from the fault, and in words."""

    seconds: float
    outcome: str
    again_s: float | None = None
    """What the next attempt took, as the kubelet makes one."""


def rows(rig: Rig, *, quick: bool) -> tuple[list[Row], list[Goal]]:
    """With us three times each, without us once each; the quick form leaves out the body: that takes half a
    minute.
    """
    rounds = 1 if quick else 3
    rig.stop_readers()
    headers = [_before_headers(rig, _PATIENCE_S) for _ in range(rounds)]
    body = [] if quick else [_in_body(rig, _PATIENCE_S) for _ in range(rounds)]
    rig.fenced = False
    alone = (
        [_before_headers(rig, _QUICK_S)]
        if quick
        else [_before_headers(rig, _ALONE_S), _in_body(rig, _ALONE_S)]
    )
    rig.fenced = True
    cases = ("hang before headers", "hang in a body")
    found = [
        _row(f"plain pull, {case}", pulls)
        for case, pulls in zip(cases, (headers, body), strict=True)
        if pulls
    ]
    found += [
        _row(f"plain pull without us, {case}", [pull]) for case, pull in zip(cases, alone, strict=False)
    ]
    stuck = sum(pull.outcome == "not finished" for pull in (*headers, *body))
    slow = max(pull.seconds for pull in headers)
    return found, [
        Goal("pulls with us that did not end", stuck, 0, "pulls"),
        Goal("plain pull, hang before headers", slow, 5, "s"),
    ]


def _row(case: str, pulls: list[Pull]) -> Row:
    outcomes = ", ".join(sorted({pull.outcome for pull in pulls}))
    again = [pull.again_s for pull in pulls if pull.again_s is not None]
    extra: dict[str, float | str] = {
        "outcome": outcomes,
        **({"next attempt, s": max(again)} if again else {}),
    }
    failed = sum(pull.outcome == "failed" for pull in pulls)
    values = [pull.seconds for pull in pulls]
    return row(f"{case}: from the fault to the pull's end", values, "s", errors=failed, extra=extra)


def _before_headers(rig: Rig, patience_s: float) -> Pull:
    _prepare(rig)
    faults.SILENT.begin(rig)
    began = time.monotonic()
    process = _start(rig)
    try:
        return _ended(rig, process, began, patience_s)
    finally:
        _end(rig, process, faults.SILENT.end)


def _in_body(rig: Rig, patience_s: float) -> Pull:
    _prepare(rig)
    rig.mirror.fault("trickle", rate=_RATE, match=faults.BLOBS)
    hits = rig.mirror.stats()["hits"]
    process = _start(rig)
    try:
        rig.wait(lambda: rig.mirror.stats()["hits"] > hits + 1, 20, "the pull asks for the layer")
        time.sleep(1)
        faults.FROZEN.begin(rig)
        return _ended(rig, process, time.monotonic(), patience_s)
    finally:
        _end(rig, process, faults.FROZEN.end)


def _prepare(rig: Rig) -> None:
    """Nothing of the image on the node, the mirror well, the agent fresh or stopped."""
    rig.node.run(["crictl", "rmi", _REF], check=False)
    layer = images.image(IMAGE).blob
    listed = ["ctr", "--namespace=k8s.io", "content", "ls", "--quiet"]
    rig.node.wait_until(
        lambda: layer not in rig.node.run(listed).stdout, 60, "the layer's content is collected"
    )
    if rig.fenced:
        rig.fresh_agent()
    else:
        rig.stop_agent()


def _start(rig: Rig) -> subprocess.Popen[bytes]:
    none = subprocess.DEVNULL
    argv = ["timeout", "300", "crictl", "--timeout=300s", "pull", _REF]
    return rig.node.popen(argv, stdin=none, stdout=none, stderr=none)


def _ended(rig: Rig, process: subprocess.Popen[bytes], began: float, patience_s: float) -> Pull:
    try:
        code = process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return Pull(time.monotonic() - began, "not finished")
    took = time.monotonic() - began
    if code == 0:
        return Pull(took, "pulled")
    again = time.monotonic()
    retry = _start(rig)
    try:
        worked = retry.wait(patience_s) == 0
    except subprocess.TimeoutExpired:
        retry.kill()
        raise NodeError("the next attempt of the pull does not end either") from None
    return Pull(took, "failed" if worked else "failed twice", time.monotonic() - again)


def _end(rig: Rig, process: subprocess.Popen[bytes], mend: faults.Act) -> None:
    if process.poll() is None:
        rig.node.run(["pkill", "--exact", "crictl"], check=False)
        process.wait(20)
    mend(rig)
