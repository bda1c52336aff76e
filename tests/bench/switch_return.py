"""The way back, flapping, and an origin that is down as well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.config.model import HealthConfig
from agent.health.policy import Policy
from tests.bench import switch_faults as faults
from tests.bench.report import Goal, Row, row
from tests.bench.sim import flaps as sim
from tests.bench.switch_rig import Rig
from tests.node.scene import Read

_DOWN_S = 2.0
_FLAP_UP_S, _FLAP_DOWN_S = 2.6, 1.0
_POLICY = Policy.of(HealthConfig(), return_delay_s=0, canary=True)
_QUICK_TO_RETURN = {"dwell_ms": 0, "rise": 2}


def returns(rig: Rig, rounds: int) -> tuple[list[Row], list[Goal]]:
    """From the moment at which the mirror listens again until the route is mirror, with the default policy
    and no fleet; then blob requests must arrive there.
    """
    values, errors = [], 0
    limit = _POLICY.dwell_s + _POLICY.rise * _POLICY.interval_s + _POLICY.canary_window_s + 1
    for _ in range(rounds):
        rig.settle()
        faults.KILLED.begin(rig)
        # A mirror that is back before it was judged down is not an outage: the suspicion is cleared at once.
        rig.wait(lambda: rig.status()["health_state"] == "down", 10, "the mirror is judged down")
        time.sleep(_DOWN_S)
        faults.KILLED.end(rig)
        mended = time.time()
        rig.wait(lambda: rig.status()["route"] == "mirror", limit + 20, "the route is mirror again")
        values.append(float(rig.status()["route_since"]) - mended)
        rig.wait(lambda: rig.mirror.stats()["blob_requests"] >= 5, 10, "reads go to the mirror again")
        errors += rig.count_errors()
    found = row("return: from the mirror's return until reads go there", values, "s", errors=errors)
    return [found], [Goal("return within dwell + rise + canary + 1 s", found.max, limit, "s")]


def flaps(rig: Rig, count: int) -> tuple[list[Row], list[Goal]]:
    """The mirror dies and comes back `count` times on a node that returns at once. Damping must hold it after
    as many outages as the machine alone, in virtual time, lets pass. About 80 s for 20.
    """
    settings = "".join(f"{name} = {value}\n" for name, value in _QUICK_TO_RETURN.items())
    rig.configure(f"[mirror.health]\n{settings}")
    rig.settle()
    began = time.time()
    try:
        for _ in range(count):
            faults.KILLED.begin(rig)
            time.sleep(_FLAP_DOWN_S)
            faults.KILLED.end(rig)
            time.sleep(_FLAP_UP_S)
        entries = [entry for entry in rig.status()["history"] if entry["at"] >= began]
    finally:
        errors = rig.count_errors()
        rig.configure("")
    away = sum(entry["route"] == "origin" and entry["route_from"] == "mirror" for entry in entries)
    health = replace(HealthConfig(), **_QUICK_TO_RETURN)
    policy = Policy.of(health, return_delay_s=0, canary=True)
    allowed = sim.switches(sim.Flapping(count, _FLAP_DOWN_S, _FLAP_UP_S), policy)
    what = f"{count} flaps: switches to the origin"
    found = row(what, [away], "switches", errors=errors, extra={"the machine alone": allowed})
    return [found], [
        Goal(what, away, allowed, "switches"),
        Goal("flaps: none was seen", 1 - min(away, 1), 0, ""),
    ]


def origin_down_too(rig: Rig, stalls: Sequence[float]) -> tuple[list[Row], list[Goal]]:
    """The mirror stalls for so many seconds while the origin refuses: the agent knows it, or it happens in
    the same moment, when the fence stands until the origin was asked (twice, 0.6 s apart).
    """
    rig.count_errors()
    known = [_stall(rig, stall_s, known=True) for stall_s in stalls]
    errors = rig.count_errors()
    sudden = [_stall(rig, stall_s, known=False) for stall_s in stalls]
    dark = max(seconds for _, seconds, _ in sudden)
    return [
        _stalled("mirror stalls, origin known to be down: slowest read", known, errors),
        _stalled(
            "mirror stalls in the moment in which the origin goes down: slowest read",
            sudden,
            rig.count_errors(),
        ),
    ], [
        Goal(
            "fences raised while the origin is known to be down",
            sum(raised for _, _, raised in known),
            0,
            "fences",
        ),
        Goal("time fenced when the origin goes down in the same moment", dark, 2, "s"),
    ]


def _stalled(case: str, stalls: Sequence[tuple[Read, float, int]], errors: int) -> Row:
    slowest = [read.ms for read, _, _ in stalls]
    return row(
        case, slowest, "ms", errors=errors, extra={"fenced, s": max(seconds for _, seconds, _ in stalls)}
    )


def _stall(rig: Rig, stall_s: float, *, known: bool) -> tuple[Read, float, int]:
    """One stall: its slowest read, how long the fence stood, and how often it was raised."""
    if known:
        rig.front.fault("refuse")
    rig.settle()
    if known:
        rig.wait(
            lambda: all(seen["ok"] is False for seen in rig.status()["origins"]),
            10,
            "the origin is known as bad",
        )
    try:
        raised = int(rig.status()["fence"]["raised"])
        rig.front.fault("refuse")
        began = time.time()
        faults.SILENT.begin(rig)
        time.sleep(stall_s)
        faults.SILENT.end(rig)
        ended = time.time()
        rig.wait(lambda: rig.served_since(ended) >= 5, 20, "reads go on")
    finally:
        rig.mirror.fault()
        rig.mirror.ping("ok")
        rig.front.fault()
    status = rig.status()
    slowest = max((read for reads in rig.ended_since(began) for read in reads), key=lambda read: read.ms)
    return slowest, _at_origin_s(status, began), int(status["fence"]["raised"]) - raised


def _at_origin_s(status: dict[str, Any], since: float) -> float:
    """How long the route was origin since then."""
    total, left = 0.0, None
    for entry in (entry for entry in status["history"] if entry["at"] >= since):
        if entry["route"] == "origin":
            left = left if left is not None else float(entry["at"])
        elif left is not None:
            total, left = total + float(entry["at"]) - left, None
    return round(total + (float(status["at"]) - left if left is not None else 0.0), 2)
