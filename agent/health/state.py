"""What the health machine knows (State) and what it asks for (effects). Values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.health.damping import Flap
from agent.health.evidence import Mode, Owner, Route, SymptomKind

NEVER = float("-inf")


class HealthState(enum.StrEnum):
    """What is thought of the mirror."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """First evidence was seen; a tentative fence is up while it is being confirmed or refuted."""
    DOWN = "down"
    PROBATION = "probation"
    """Well again; the route stays at the origin until this node's slot in the fleet's return has come."""


class Cause(enum.StrEnum):
    """Why the health state, or the route, is what it is: one word, to count by."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    CLOSED = "closed"
    """An answer was cut short, or the sentinel connection ended."""
    STATUS = "status"
    CONTENT = "content"
    SILENT = "silent"
    OWNER = "owner"
    SYMPTOM = "symptom"
    ENDED = "ended"
    LATE = "late"
    """Silence in rounds in which the agent was late itself, too many to go on dropping them."""
    PIN = "pin"
    MODE = "mode"
    ADOPTED = "adopted"
    ORIGIN = "origin"
    """The origin turned good or bad."""
    FENCE = "fence"
    """The fence could not be raised."""
    RECOVERED = "recovered"
    REFUTED = "refuted"
    """A suspicion was wrong, or was not confirmed."""
    FIRST = "first"
    """Nothing was seen before."""


class Accuser(enum.StrEnum):
    """Who speaks against the mirror. Two that do not see the same thing are believed without a canary."""

    PING = "ping"
    CANARY = "canary"
    SENTINEL = "sentinel"
    PROCESS = "process"
    OWNER = "owner"
    READS = "reads"
    """Real reads that nydusd fails, or will fail."""
    FALLBACK = "fallback"
    """Real reads that nydusd has saved by itself."""


@dataclass(frozen=True, slots=True)
class RaisedFence:
    """The fence as it is up. Times are monotonic seconds."""

    tentative: bool
    renewed: float
    since: float
    met: tuple[SymptomKind, ...] = ()
    """Symptoms that reads have met behind it, so from the origin."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly one kind of probe is answered by a mirror that is well; see agent.health.patience.

    Seconds.
    """

    slowest_s: float = 0.0
    """The slowest honest answer of late, decayed up to `at`."""
    at: float = NEVER
    doubt_s: float = 0.0
    """The last answer that came after its window, ..."""
    doubt_at: float = NEVER
    """... when the first one of its hiccup came, ..."""
    doubting: bool = False
    """... and whether nothing that was sent since then was answered in good time."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything on which the next health state depends. Times are monotonic seconds."""

    health_state: HealthState = HealthState.UNKNOWN
    since: float = 0.0
    reason: str = "nothing was seen yet"
    evidence: str = ""
    cause: Cause = Cause.FIRST

    mode: Mode = Mode.UNKNOWN
    mode_reason: str = ""
    pin: Route | None = None
    pin_reason: str = ""
    pin_until: float | None = None
    """When the pin ends; None: nobody said."""

    owner: Owner = Owner.UNKNOWN
    local: bool = False
    """The mirror's listener was seen on this node with the right owner: from then on, its absence is
    evidence.
    """
    origin: bool | None = None
    origin_detail: str = ""

    ping_ok: bool | None = None
    oks: int = 0
    """Successes since the last failure; while the mirror is healthy no more than are ever asked for."""
    ping_soft: int = 0
    """Rounds of pings in succession that nothing answered."""
    ping_silent: float = NEVER
    """When the first of them began."""
    ping_late: int = 0
    """Rounds of pings in succession that were dropped because the agent was late."""
    ping_refuted: bool = False
    """Pings fail although the data path works (canaries showed it): until a ping succeeds they count no
    more.
    """
    canary_oks: int = 0
    """Clean canaries in succession."""
    canary_ok: float = NEVER
    """When the last clean canary began."""
    canary_soft: int = 0
    canary_silent: float = NEVER
    canary_late: int = 0
    failed_at: float = NEVER
    ping_pace: Pace = field(default_factory=Pace)
    canary_pace: Pace = field(default_factory=Pace)
    sentinel_trusted: bool = True
    """False after the sentinel's end was refuted: this mirror closes idle connections."""

    accusers: frozenset[Accuser] = frozenset()
    """Who spoke against the mirror in this suspicion."""
    accused: float = NEVER
    """A canary that began before this says nothing about the suspicion."""
    hard: frozenset[Accuser] = frozenset()
    """Those of them who brought hard evidence."""
    held: bool = False
    """The suspicion lasts for its whole time: no clean canary ends it earlier."""
    doubted: frozenset[Accuser] = frozenset()
    """Whose suspicion was refuted: they are believed less ..."""
    doubted_until: float = NEVER
    """... until then."""
    data_cleared: float = NEVER
    """When a suspicion that canaries or reads had raised was refuted the last time."""

    want: str = ""
    """What the agent itself lacks, so that its probes say nothing; "" = nothing, for `Policy.want_told_s`."""
    want_at: float = NEVER
    """When it lacked it the last time."""

    symptoms_unknown: str = "nydusd's lines were not read yet"
    """Why the absence of symptoms says nothing; "" = it says that reads are well."""
    blamed: frozenset[SymptomKind] = frozenset()
    """The kinds of symptoms that the last suspicion by reads was raised for."""
    symptom_refuted: frozenset[SymptomKind] = frozenset()
    """Symptoms of these kinds count no more, because the origin gave the same, ..."""
    symptom_refuted_until: float = NEVER
    """... until then."""
    fallback_at: float = NEVER
    """When a read fell back the last time."""

    was_well: bool = False
    """The mirror was healthy before, in this run or (an adopted fence) in a former one."""
    flap: Flap = field(default_factory=Flap)
    unblamed: Flap = field(default_factory=Flap)
    """The same without what reads alone have added of late, which is given back where the origin gives the
    same.
    """
    return_at: float = NEVER
    fence: RaisedFence | None = None
    lifted: float = NEVER
    """When the fence was lifted the last time."""
    met: tuple[SymptomKind, ...] = ()
    """What reads had met behind it."""
    fence_error: str = ""
    """Why the fence could not be raised the last time; "" = it could, or was not tried."""
    fence_failed_at: float = NEVER

    @property
    def soft(self) -> int:
        """Silent rounds in succession, of either kind of probe."""
        return self.ping_soft + self.canary_soft


@dataclass(frozen=True, slots=True)
class RaiseFence:
    """Fence the mirror for `lease_s` seconds, then destroy nydusd's open connections to it."""

    lease_s: float
    tentative: bool


@dataclass(frozen=True, slots=True)
class ExtendFence:
    """Assert the table and renew the lease."""

    lease_s: float
    tentative: bool


@dataclass(frozen=True, slots=True)
class LiftFence:
    """Let connections to the mirror through again."""


@dataclass(frozen=True, slots=True)
class AskCanary:
    """Send a canary now."""


@dataclass(frozen=True, slots=True)
class AskOrigin:
    """Ask the origins now."""


@dataclass(frozen=True, slots=True)
class AskOwner:
    """Look at the listener's owner now."""


Effect: TypeAlias = RaiseFence | ExtendFence | LiftFence | AskCanary | AskOrigin | AskOwner


@dataclass(frozen=True, slots=True)
class Transition:
    """The health state or the route changed: what is logged, counted and kept as history."""

    before: HealthState
    after: HealthState
    route_before: Route
    route: Route
    reason: str
    evidence: str
    matters: bool = True
    """Something of ours uses the mirror; false before the first apply, when a node without one lacks
    nothing.
    """
    cause: Cause = Cause.FIRST
    """Of the route's change where the route changed, else of the health state's."""
