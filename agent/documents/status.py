"""What is published of this node for everyone to read: status.json, by the daemon, an unprivileged user;
effective.json and proof.json, by root.

A field that is new has a default: while a package is replaced, a verb reads what the one before it wrote.
Times are seconds since the epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agent.codec import Count, Port, Text, Time
from agent.documents.drift import Finding
from agent.errors import AgentError
from agent.health.evidence import Mode, Owner, Route
from agent.health.state import HealthState


@dataclass(frozen=True, slots=True)
class Change:
    """A transition of the health state or the route."""

    at: Time
    from_: Text
    to: Text
    route: Text
    reason: Text
    evidence: Text = ""
    route_from: Text = ""
    """Empty where it is not known."""
    cause: Text = ""
    """One word of agent.health.state.Cause, empty where it is not known."""


class Truth(enum.StrEnum):
    """Kubernetes' words for it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class ConditionStatus:
    """A problem that holds or not; its type names the problem, so True is bad."""

    type: Text
    status: Truth
    reason: Text = ""
    message: Text = ""
    since: Time | None = None

    @property
    def holds(self) -> bool:
        """Whether it is a problem now."""
        return self.status is Truth.TRUE


@dataclass(frozen=True, slots=True)
class PinStatus:
    """A route that an operator has pinned."""

    route: Route
    until: Time = field(compare=False)
    """When it ends by the wall clock of now: that moves when the clock is stepped, and the pin is still the
    same."""
    reason: Text
    by: Text
    at: Time | None = None

    @property
    def words(self) -> str:
        """Why and by whom."""
        return f"{self.reason} (by {self.by or 'root'})" if self.reason else f"by {self.by or 'root'}"


@dataclass(frozen=True, slots=True)
class FenceStatus:
    """The fence as the daemon holds it. The counts are sums since its start."""

    active: bool = False
    address: Text = ""
    port: Port = 0
    lease_left_ms: Count = 0
    refused_connects: Count = 0
    raised: Count = 0
    renewed: Count = 0
    destroyed_connections: Count = 0
    self_test: Text = "not-run"
    self_test_reason: Text = ""


@dataclass(frozen=True, slots=True)
class ContainerdStatus:
    """What became of containerd's connections to the fenced mirror: destroyed because they waited for an
    answer, or because nothing came any more (sums since the start), and left (as last seen; 0 while nothing
    is fenced)."""

    released_waiting: Count = 0
    released_stalled: Count = 0
    spared: Count = 0


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """The mirror as the daemon's probes see it."""

    url: Text = ""
    ping_ok: bool | None = None
    ping_at: Time | None = None
    ping_ms: float | None = None
    ping_detail: Text = ""
    canary_ok: bool | None = None
    canary_at: Time | None = None
    canary_ms: float | None = None
    canary_detail: Text = ""
    owner: Owner = Owner.UNKNOWN
    owner_detail: Text = ""


@dataclass(frozen=True, slots=True)
class PublishedOrigin:
    """One registry that images come from."""

    host: Text
    ok: bool | None = None
    at: Time | None = None
    detail: Text = ""


@dataclass(frozen=True, slots=True)
class Return:
    """What must still happen until reads go (back) to the mirror, and the earliest time of that."""

    waits_for: tuple[Text, ...] = ()
    seconds: float | None = None
    """None: nobody can tell."""


@dataclass(frozen=True, slots=True)
class PenaltyStatus:
    """Flap damping."""

    value: float = 0.0
    held: bool = False
    """Whether it holds the mirror back."""
    reuse: float = 0.0
    """Below this it no longer does."""


@dataclass(frozen=True, slots=True)
class SymptomSeen:
    """One symptom of real reads."""

    kind: Text
    detail: Text
    at: Time


@dataclass(frozen=True, slots=True)
class SymptomsStatus:
    """What real reads have told."""

    watching: bool = False
    """They are seen now; where not, `problem` says why, and nothing is known of them."""
    problem: Text = ""
    counts: Mapping[str, Count] = field(default_factory=dict)
    last: SymptomSeen | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """status.json: what the daemon publishes, for everyone to read. Its writer is an unprivileged user."""

    KIND: ClassVar = "DaemonStatus"
    pid: Count
    at: Time
    started_at: Time
    mode: Mode
    mode_reason: Text
    health_state: HealthState
    health_since: Time
    health_reason: Text
    health_cause: Text = ""
    health_evidence: Text = ""
    route: Route
    route_since: Time
    route_reason: Text
    fence: FenceStatus
    containerd: ContainerdStatus = field(default_factory=ContainerdStatus)
    mirror: MirrorStatus
    window_ms: Count | None = None
    """How long a round of pings, and a canary, may take now: they adapt to the mirror's honest latency."""
    canary_window_ms: Count | None = None
    symptoms: SymptomsStatus | None = None
    penalty: PenaltyStatus | None = None
    return_: Return | None = None
    origins: tuple[PublishedOrigin, ...] = ()
    pin: PinStatus | None = None
    drift: tuple[Finding, ...] = ()
    conditions: tuple[ConditionStatus, ...] = ()
    history: tuple[Change, ...] = ()
    """Oldest first; the last field, because its text is kept."""

    @property
    def evidence(self) -> str:
        """What the health state stands on; where the daemon does not say it, that of the transition to it."""
        latest = next((change for change in reversed(self.history) if change.to == self.health_state), None)
        return self.health_evidence or (latest.evidence if latest is not None else "")

    @property
    def mirror_address(self) -> str:
        """The mirror as ADDRESS:PORT."""
        return self.mirror.url.split("://")[-1].split("/")[0]


@dataclass(frozen=True, slots=True)
class EffectiveDocument:
    """What "auto" came to when the node was changed, and what the daemon is to watch."""

    KIND: ClassVar = "Effective"
    generation: Count = 0
    at: Time | None = None
    switch: Text = "unknown"
    """"fence" or "native"."""
    dialect: Text = ""
    """"proxy" or "mirrors"."""
    use_http: bool | None = None
    scheme: Text = ""
    reasons: tuple[Text, ...] = ()
    not_accelerated: tuple[Text, ...] = ()
    """Registries whose nydus images go direct, each with the reason."""
    mirror_url: Text = ""
    ping_url: Text = ""
    rolled_back_to: Count | None = None
    """The generation whose state it is, where it is a rollback."""
    origins: tuple[Text, ...] = ()
    """Registries that nydusd reads from: the daemon asks them before it fences the mirror."""


class CheckState(enum.StrEnum):
    """What a check says. Only OK is a claim."""

    OK = "ok"
    FAILED = "failed"
    NOT_PROVED = "not-proved"
    """It could not be run, for a reason that is no fault (no nydus image on the node yet)."""
    UNKNOWN = "unknown"
    """Something that had to be asked did not answer in a way that tells."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of the proof."""

    number: Count
    name: Text
    state: CheckState
    detail: Text = ""
    code: Text = ""
    cause: Text = ""
    evidence: tuple[Text, ...] = ()
    try_: Text = ""

    def error(self) -> AgentError:
        """As an error, for headlines and for the undo of a change whose proof failed."""
        return AgentError(
            self.code, f"check {self.number} ({self.name}): {self.detail}", cause=self.cause,
            seen=self.evidence,
            try_=self.try_,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProofDocument:
    """The last proof."""

    KIND: ClassVar = "Proof"
    at: Time
    agent: Text = ""
    """The agent's version."""
    ok: bool = False
    headline: Text = ""
    """The first check that failed, in a sentence."""
    checks: tuple[CheckResult, ...] = ()
    """Lowest first."""
    drift: tuple[Text, ...] = ()
    """What others have changed that is ours, in words."""
    unseen: tuple[Text, ...] = ()
    """What could not be looked at for drift, each with the reason."""
    pending: tuple[Text, ...] = ()
    """What the configuration wants other than was applied, in words."""
    unrenewed: tuple[Text, ...] = ()
    """Images in use whose credential expires and is not renewed."""
    versions: Mapping[str, Text] = field(default_factory=dict)
    boot_id: Text = ""
    """Of the boot in which it was made (random(4)); empty in an answer of `doctor`."""

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """Checks that failed, lowest first."""
        return tuple(check for check in self.checks if check.state is CheckState.FAILED)
