"""Pictures of the daemon: on a node that is well, and while the mirror is down."""

from __future__ import annotations

from dataclasses import replace

from agent.daemon.documents import LastProof
from agent.daemon.drift import Drift
from agent.daemon.lease import FenceLease
from agent.daemon.metrics import Counts, SymptomsSeen, Times
from agent.daemon.publish import Problems, View, conditions
from agent.daemon.settings import Places
from agent.documents.status import (
    Change,
    ConditionStatus,
    ContainerdStatus,
    FenceStatus,
    MirrorStatus,
    PenaltyStatus,
    PinStatus,
    PublishedOrigin,
    Return,
    SymptomSeen,
    SymptomsStatus,
)
from agent.health.evidence import Mode, Owner, Route
from agent.health.state import HealthState, State
from tests.fakes.daemon import FakeCgroups, FakeWatch
from tests.fakes.fence import FakeFence


def none_holds() -> tuple[ConditionStatus, ...]:
    """Every condition that there is, on a node that is well."""
    watch = FakeWatch()
    lease = FenceLease(FakeFence(), FakeCgroups(), ("127.0.0.1", 4001))
    drift = Drift(watch, int, "", Places())
    found = tuple(
        conditions(State(), lease, drift, Problems(), symptoms="", around=False, refused="", unsteady="")
    )
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
    fence=FenceStatus(address="127.0.0.1", port=4001, self_test="ok", self_test_reason="shown"),
    mirror=MirrorStatus(
        "http://127.0.0.1:4001",
        ping_ok=True,
        ping_at=999.9,
        ping_ms=0.5,
        canary_ok=True,
        canary_at=999.0,
        canary_ms=1.5,
        owner=Owner.OK,
        owner_detail="127.0.0.1:4001 is held by uid 0",
    ),
    ping_times=Times().view(),
    canary_times=Times().view(),
    origins=(
        PublishedOrigin("registry.test:5000", ok=True, at=990.0),
        PublishedOrigin('odd"name\\', ok=None),
    ),
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
    fence=replace(
        VIEW.fence, active=True, lease_left_ms=9000, refused_connects=3, raised=1, destroyed_connections=2
    ),
    pin=PinStatus(Route.ORIGIN, 2000.0, "maintenance", "root"),
    history=(
        Change(999.0, "healthy", "down", "origin", "ping refused", "4003 refused", "mirror", "refused"),
    ),
    health_cause="refused",
    health_evidence="4003 refused",
    window_ms=700,
    canary_window_ms=1500,
    penalty=PenaltyStatus(1000.0, held=True, reuse=750.0),
    return_=Return(("a clean canary", "3 more successes"), 4.5),
    symptoms=SymptomsStatus(
        True,
        "",
        {**SymptomsSeen().view().counts, "cut": 2},
        SymptomSeen("cut", "ended early", 998.5),
    ),
    containerd=ContainerdStatus(released_waiting=1, released_stalled=2, spared=3),
)
