"""One immutable picture of the daemon: status.json, the metrics, readiness and sd_notify's STATUS are four renderings
of it. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.daemon.documents import LastProof, Pin
from agent.daemon.origins import OriginStatus
from agent.health.evidence import Mode, Route
from agent.health.owner import Owner
from agent.health.prospect import Prospect
from agent.health.state import HealthState
from agent.plan.drift import Finding


@dataclass(frozen=True, slots=True)
class Condition:
    """A problem that holds or does not; the type names the problem, so "True" is bad."""

    type: str
    holds: bool
    reason: str = ""
    message: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition of the health state or the route."""

    at: float
    before: str
    after: str
    route: str
    reason: str
    evidence: str
    route_from: str = ""
    cause: str = ""
    """One word of agent.health.state.Cause; "" = not known."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The last result of one kind of probe."""

    ok: bool | None = None
    at: float | None = None
    ms: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FenceView:
    """The fence."""

    active: bool = False
    address: str = ""
    port: int = 0
    lease_left_ms: int = 0
    refused: int = 0
    raised: int = 0
    renewed: int = 0
    destroyed: int = 0
    self_test: str = "not-run"
    self_test_reason: str = ""


@dataclass(frozen=True, slots=True)
class Containerd:
    """What became of containerd's connections to the fenced mirror: destroyed because they waited for an answer, or
    because nothing came any more (sums since the start), and left (as last seen; 0 while nothing is fenced)."""

    released_waiting: int = 0
    released_stalled: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Penalty:
    """Flap damping: the penalty now, whether it holds the mirror back, and below which value it no longer does."""

    value: float = 0.0
    held: bool = False
    reuse: float = 0.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many took at most each of agent.daemon.counts.BOUNDS_S (the last: any time), and their sum."""

    cumulative: tuple[int, ...]
    sum_s: float


@dataclass(frozen=True, slots=True)
class SymptomSeen:
    """One symptom of real reads."""

    kind: str
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class Symptoms:
    """What real reads have told. `watching`: they are seen now; where not, `problem` says why, and nothing is known of
    them (which is not the same as nothing being wrong).
    """

    watching: bool = False
    problem: str = ""
    counts: tuple[tuple[str, int], ...] = ()
    last: SymptomSeen | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is published."""

    pid: int
    at: float
    started_at: float
    mode: Mode
    mode_reason: str
    health_state: HealthState
    health_since: float
    health_reason: str
    route: Route
    route_since: float
    route_reason: str
    fence: FenceView
    mirror_url: str
    ping: Probed
    canary: Probed
    ping_times: Distribution
    canary_times: Distribution
    owner: Owner
    owner_detail: str
    origins: tuple[OriginStatus, ...] = ()  # `at` since the epoch
    origin: bool | None = None
    pin: Pin | None = None
    proof: LastProof = field(default_factory=LastProof)
    conditions: tuple[Condition, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    counts: tuple[tuple[str, tuple[str, ...], int], ...] = ()
    """(counter, labels' values, count), see agent.daemon.counts."""
    route_seconds: tuple[tuple[Route, float], ...] = ()
    """For how long reads went each way since the daemon's start."""
    health_cause: str = ""
    health_evidence: str = ""
    window_s: float = 0.0
    """How long a round of pings, and a canary, may take now: the windows adapt to the mirror's honest latency."""
    canary_window_s: float = 0.0
    penalty: Penalty = field(default_factory=Penalty)
    back: Prospect = field(default_factory=Prospect)
    symptoms: Symptoms = field(default_factory=Symptoms)
    containerd: Containerd = field(default_factory=Containerd)
    drift: tuple[Finding, ...] = ()
