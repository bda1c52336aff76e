"""Pictures of the daemon: on a node that is well, and while the mirror is down."""

from __future__ import annotations

from dataclasses import replace

from agent.daemon.counts import Counts, SymptomsSeen, Times
from agent.daemon.documents import LastProof, Pin
from agent.daemon.drift import Drift
from agent.daemon.lease import FenceLease
from agent.daemon.origins import OriginStatus
from agent.daemon.settings import Places
from agent.daemon.view import (
    Condition,
    Containerd,
    FenceView,
    HistoryEntry,
    Penalty,
    Probed,
    Problems,
    Symptoms,
    SymptomSeen,
    View,
    conditions,
)
from agent.health.evidence import Mode, Route
from agent.health.owner import Owner
from agent.health.prospect import Prospect
from agent.health.state import HealthState, State
from tests.fakes.daemon import FakeCgroups, FakeWatch
from tests.fakes.fence import FakeFence


def none_holds() -> tuple[Condition, ...]:
    """Every condition that there is, on a node that is well."""
    watch = FakeWatch()
    lease, drift = FenceLease(FakeFence(), FakeCgroups(), ("127.0.0.1", 4001)), Drift(watch, "", Places())
    found = tuple(conditions(State(), lease, drift, Problems(), symptoms="", around=False, refused=""))
    watch.close()
    return found


VIEW = View(
    pid=42,
    at=1000.0,
    started_at=900.0,
    mode=Mode.FENCE,
    mode_reason="auto: the self-test passed",
    health_state=HealthState.HEALTHY,
    health_since=901.0,
    health_reason="a ping and a canary were answered",
    route=Route.MIRROR,
    route_since=900.0,
    route_reason="a ping and a canary were answered",
    fence=FenceView(address="127.0.0.1", port=4001, self_test="ok", self_test_reason="shown"),
    mirror_url="http://127.0.0.1:4001",
    ping=Probed(ok=True, at=999.9, ms=0.5),
    canary=Probed(ok=True, at=999.0, ms=1.5),
    ping_times=Times().view(),
    canary_times=Times().view(),
    owner=Owner.OK,
    owner_detail="127.0.0.1:4001 is held by uid 0",
    origins=(OriginStatus("registry.test:5000", ok=True, at=990.0), OriginStatus('odd"name\\', ok=None)),
    origin=True,
    proof=LastProof(at=950.0, problem=""),
    conditions=none_holds(),
    counts=Counts().items(),
    symptoms=SymptomsSeen().view(),
)
DOWN = replace(
    VIEW,
    health_state=HealthState.DOWN,
    route=Route.ORIGIN,
    route_reason="ping refused",
    fence=replace(VIEW.fence, active=True, lease_left_ms=9000, refused=3, raised=1, destroyed=2),
    pin=Pin(Route.ORIGIN, 2000.0, "maintenance", "root"),
    history=(
        HistoryEntry(999.0, "healthy", "down", "origin", "ping refused", "4003 refused", "mirror", "refused"),
    ),
    health_cause="refused",
    health_evidence="4003 refused",
    window_s=0.7,
    canary_window_s=1.5,
    penalty=Penalty(1000.04, held=True, reuse=750.0),
    back=Prospect(("a clean canary", "3 more successes"), 4.5),
    symptoms=Symptoms(
        True,
        "",
        tuple({**dict(SymptomsSeen().view().counts), "cut": 2}.items()),
        SymptomSeen("cut", "ended early", 998.5),
    ),
    containerd=Containerd(released_waiting=1, released_stalled=2, spared=3),
)
