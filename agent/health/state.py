"""What the failure detector knows (State) and what it asks for (effects); and two rules of how long it
waits.

Windows grow with the mirror's honest latency, and shrink again. A busy node answers late (a loaded
dfdaemon's data path was seen to take 549 ms), and a slow mirror is better than none. What is learned is a
decaying maximum. An answer within its window counts at once. One that came after its window is either a
hiccup (a mirror that was frozen for two seconds answers everything late, once) or a new pace. So it widens
the window for the requests after it, until one of them is answered in good time, and it is learned only
when a request that was sent after it had come is late too.

Flap damping: a mirror that fails again and again is believed later each time (the scheme of RFC 2439).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.health.evidence import Mode, Owner, Route, SymptomKind
from agent.health.policy import Policy

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
class Flap:
    """The penalty as of `at` (monotonic seconds), and whether it has crossed the suppress threshold."""

    penalty: float = 0.0
    at: float = 0.0
    suppressed: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly one kind of probe is answered by a mirror that is well; see `learned`.

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
    ping_bad: int = 0
    """Rounds of pings in succession that failed, in whatever way, up to `Policy.fall`; below 0: that were
    answered since `pings_down`, down to -`Policy.rise`.
    """
    pings_down: bool = False
    """`Policy.fall` in succession failed, and `Policy.rise` in succession were not answered since."""
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
    canary_bad: int = 0
    """Canaries in succession that failed hard."""
    canary_borne_at: float = NEVER
    """When one that failed alone was only told, the last time."""
    canary_soft: int = 0
    canary_silent: float = NEVER
    canary_late: int = 0
    """Canaries in succession that were dropped because the agent was late, or lacked something."""
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
    alone: bool = False
    """Of hard evidence there are only the reads of one nydusd of several."""
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
    stalls: Flap = field(default_factory=Flap)
    """Suspicions that silence has raised, each 1, decayed."""
    borne: Flap = field(default_factory=Flap)
    """Seconds of silence that were borne, decayed."""
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


def decayed(flap: Flap, now: float, policy: Policy) -> float:
    """The penalty now."""
    return halved(flap, now, policy.flap_half_life_s)


def is_patient(state: State, now: float, policy: Policy) -> bool:
    """Whether the mirror has stalled so often that silence must last for `Policy.patience_s`."""
    return halved(state.stalls, now, policy.stall_half_life_s) >= 1


def can_bear(state: State, now: float, policy: Policy) -> bool:
    """Whether silence is ridden out: the mirror stalls often, and is not silent most of the time."""
    much = halved(state.borne, now, policy.borne_half_life_s) >= policy.borne_s
    return is_patient(state, now, policy) and not much


def halved(flap: Flap, now: float, half_life_s: float) -> float:
    """What is left of it now."""
    return float(flap.penalty * 0.5 ** (max(0.0, now - flap.at) / half_life_s))


def after_outage(flap: Flap, now: float, policy: Policy) -> Flap:
    """One outage more."""
    return _more(flap, policy.flap_penalty, now, policy)


def after_suspicion(flap: Flap, now: float, policy: Policy) -> Flap:
    """One fence more that was raised for nothing."""
    return _more(flap, policy.flap_suspicion, now, policy)


def held(flap: Flap, now: float, policy: Policy) -> bool:
    """Whether the mirror must not be believed yet."""
    return flap.suppressed and decayed(flap, now, policy) >= policy.flap_reuse


def held_s(flap: Flap, now: float, policy: Policy) -> float:
    """Seconds until the mirror may be believed again, as far as the penalty goes."""
    if not held(flap, now, policy):
        return 0.0
    return policy.flap_half_life_s * math.log2(decayed(flap, now, policy) / policy.flap_reuse)


def released(flap: Flap, now: float, policy: Policy) -> Flap:
    """The penalty after the mirror is believed again: it decays on, the suppression is over."""
    return Flap(decayed(flap, now, policy), now)


def _more(flap: Flap, amount: float, now: float, policy: Policy) -> Flap:
    penalty = min(decayed(flap, now, policy) + amount, policy.flap_cap)
    return Flap(penalty, now, flap.suppressed or penalty > policy.flap_suppress)


def ping_window_s(state: State, policy: Policy) -> float:
    """Seconds that a round of pings which begins now may stay unanswered."""
    return _window_s(state.ping_pace, policy.window_s, policy)


def canary_window_s(state: State, policy: Policy) -> float:
    """Seconds that a round of canaries which begins now may stay unanswered."""
    return _window_s(state.canary_pace, policy.canary_window_s, policy)


def tentative_s(state: State, policy: Policy) -> float:
    """Seconds that a suspicion lasts at most: windows that have grown need more time for their second
    round.
    """
    grown_s = max(
        ping_window_s(state, policy) - policy.window_s,
        canary_window_s(state, policy) - policy.canary_window_s,
    )
    return policy.tentative_s + 2 * grown_s


def silence_s(state: State, policy: Policy) -> float:
    """Seconds of silence that make an outage: no honest answer takes longer."""
    return max(policy.window_cap_s, ping_window_s(state, policy), canary_window_s(state, policy))


def silent_since(state: State, now: float) -> float:
    """When the silent rounds in succession began."""
    return min(
        state.ping_silent if state.ping_soft else now, state.canary_silent if state.canary_soft else now
    )


def late(pace: Pace, started: float, latency_s: float, floor_s: float, policy: Policy) -> bool:
    """Whether an answer came after the window in which the request was sent."""
    known = pace if started >= pace.doubt_at else replace(pace, doubting=False)
    return latency_s > _window_s(known, floor_s, policy)


def learned(pace: Pace, started: float, latency_s: float, now: float, floor_s: float, policy: Policy) -> Pace:
    """What an answer teaches which came now to a request sent at `started`; `floor_s` is that probe's least
    window.

    Nothing where neither it nor what was learned before can widen that window. So it is with nearly every
    answer, and then the same pace is given back: the state of a mirror that is well does not change with each
    of its answers.
    """
    if not pace.doubting and policy.window_factor * max(pace.slowest_s, latency_s) <= floor_s:
        return pace
    age_s = now - pace.at if pace.slowest_s else 0.0
    slowest_s = pace.slowest_s * 0.5 ** (age_s / policy.window_half_life_s)
    remembered = now - pace.doubt_at <= policy.window_memory_s
    newer = started >= pace.doubt_at
    if not late(pace, started, latency_s, floor_s, policy):
        doubt_at = pace.doubt_at if remembered else NEVER
        return Pace(max(slowest_s, latency_s), now, pace.doubt_s, doubt_at, pace.doubting and not newer)
    if not remembered:
        return Pace(slowest_s, now, latency_s, now, doubting=True)
    if newer:
        return Pace(max(slowest_s, min(latency_s, pace.doubt_s)), now, latency_s, now, doubting=True)
    # Sent before the first late answer had come: the same hiccup, whose end that answer was.
    return Pace(slowest_s, now, max(latency_s, pace.doubt_s), pace.doubt_at, doubting=pace.doubting)


def _window_s(pace: Pace, floor_s: float, policy: Policy) -> float:
    slowest_s = max(pace.slowest_s, pace.doubt_s) if pace.doubting else pace.slowest_s
    return max(floor_s, min(policy.window_factor * slowest_s, policy.window_cap_s))
