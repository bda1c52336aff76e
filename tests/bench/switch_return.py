"""The way back, flapping, and an origin that is down as well."""

from __future__ import annotations

import time

from agent.config.model import HealthConfig
from agent.health import damping
from agent.health.policy import Policy
from tests.bench import switch_faults as faults
from tests.bench.report import Goal, Row, row
from tests.bench.switch_rig import Rig

_FLAP_UP_S, _FLAP_DOWN_S = 2.6, 1.0
_POLICY = Policy.of(HealthConfig(), return_delay_s=0, canary=True)
_QUICK_TO_RETURN = "[mirror.health]\ndwell_ms = 0\nrise = 2\n"


def returns(rig: Rig, rounds: int) -> tuple[list[Row], list[Goal]]:
    """From the moment at which the mirror listens again until the route is mirror, with the default policy and no
    fleet; then blob requests must arrive there.
    """
    values, errors = [], 0
    limit = _POLICY.dwell_s + _POLICY.rise * _POLICY.interval_s + _POLICY.canary_window_s + 1
    for _ in range(rounds):
        rig.settle()
        faults.KILLED.begin(rig)
        rig.wait(lambda: rig.status()["route"] == "origin", 5, "the route is origin")
        rig.wait(lambda: rig.served_since(time.time() - 1) >= 3, 5, "reads are served by the origin")
        faults.KILLED.end(rig)
        mended = time.time()
        rig.wait(lambda: rig.status()["route"] == "mirror", limit + 20, "the route is mirror again")
        values.append(float(rig.status()["route_since"]) - mended)
        rig.wait(lambda: rig.mirror.stats()["blob_requests"] >= 5, 10, "reads go to the mirror again")
        errors += rig.count_errors()
    found = row("return: from the mirror's return until reads go there", values, "s", errors=errors)
    return [found], [Goal("return within dwell + rise + canary + 1 s", found.max, limit, "s")]


def flaps(rig: Rig, count: int) -> tuple[list[Row], list[Goal]]:
    """The mirror dies and comes back `count` times on a node that returns at once: damping must hold it."""
    rig.configure(_QUICK_TO_RETURN)
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
    allowed = _outages_until_held(_FLAP_UP_S + _FLAP_DOWN_S + 0.5)
    what = f"{count} flaps: switches to the origin"
    return [row(what, [away], "switches", errors=errors)], [Goal(what, away, allowed, "switches")]


def _outages_until_held(period_s: float) -> int:
    flap, count = damping.Flap(), 0
    while not damping.held(flap, count * period_s, _POLICY):
        count += 1
        flap = damping.after_outage(flap, count * period_s, _POLICY)
    return count


def origin_down_too(rig: Rig, rounds: int) -> tuple[list[Row], list[Goal]]:
    """The mirror stalls for 1, 3 and 5 s while the origin refuses: known before, or down in the same moment."""
    rows, fences = [], 0
    for name, before_s in (("and the origin is down", 8.0), ("in the moment in which the origin goes down", 0.0)):
        errors = 0
        slowest: list[float] = []
        for stall_s in (1.0, 3.0, 5.0) * rounds:
            raised = _stall(rig, before_s, stall_s, slowest)
            fences += raised
            errors += rig.count_errors()
        rows.append(row(f"mirror stalls 1 to 5 s {name}: slowest read", slowest, "ms", errors=errors))
    return rows, [Goal("fences raised while the origin is down", fences, 0, "fences")]


def _stall(rig: Rig, before_s: float, stall_s: float, slowest: list[float]) -> int:
    """One stall; adds the slowest read and returns how many fences were raised."""
    rig.settle()
    raised = int(rig.status()["fence"]["raised"])
    rig.front.fault("refuse")
    try:
        time.sleep(before_s)
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
    slowest.append(max(read.ms for reads in rig.ended_since(began) for read in reads))
    return int(rig.status()["fence"]["raised"]) - raised
