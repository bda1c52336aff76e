"""Runs of the health machine: what happens is written down as (time, event), and compared are lists of what
was told and done.
"""

from __future__ import annotations

import math

from agent.health.evidence import (
    CanaryOk,
    Event,
    Failure,
    Mode,
    ModeChanged,
    OriginSeen,
    Owner,
    OwnerSeen,
    PingOk,
    Symptom,
    SymptomKind,
    SymptomsUnknown,
    Tick,
)
from agent.health.machine import step, transition
from agent.health.policy import Policy
from agent.health.state import (
    AskCanary,
    AskOrigin,
    AskOwner,
    Effect,
    ExtendFence,
    HealthState,
    LiftFence,
    RaiseFence,
    State,
)

POLICY = Policy(return_delay_s=20.0)
FENCE = ModeChanged(Mode.FENCE, "applied")
GOOD = OriginSeen(True, "answers")
BAD = OriginSeen(False, "refused")
REFUSED = Failure.REFUSED
SILENT = Failure.SILENT
STATUS = SymptomKind.STATUS
FALLBACK = SymptomKind.FALLBACK
COUNTER = SymptomKind.COUNTER
ASKS = [AskCanary(), AskOwner(), AskOrigin()]
"""What a new suspicion asks for."""


class Run:
    """A state that is fed, with what was told and done on the way."""

    def __init__(self, policy: Policy = POLICY, *first: Event) -> None:
        self.policy = policy
        self.state = State()
        self.told: list[tuple[float, str, str]] = []
        """(time, health state before -> after, route after)"""
        self.causes: list[str] = []
        """Of what was told."""
        self.done: list[tuple[float, Effect]] = []
        for event in first:
            self.at(0.0, event)

    def at(self, now: float, *events: Event) -> Run:
        for event in events:
            before = self.state
            self.state, effects = step(before, event, now, self.policy)
            self.done += [(now, effect) for effect in effects]
            change = transition(before, self.state)
            if change is not None:
                self.told.append((now, f"{change.before} -> {change.after}", str(change.route)))
                self.causes.append(change.cause)
        return self

    def every(self, gap: float, start: float, end: float, *kinds: str) -> Run:
        """`kinds` ("ping", "canary", "tick") in each gap from start to end."""
        for number in range(int((end - start) / gap + 1e-6) + 1):
            now = round(start + number * gap, 3)
            events: dict[str, Event] = {
                "ping": PingOk(now, 0.001),
                "canary": CanaryOk(now, 0.002),
                "tick": Tick(),
            }
            self.at(now, *(events[kind] for kind in kinds))
        return self

    def symptom(self, now: float, kind: SymptomKind, at: float | None = None) -> Run:
        """A symptom that happened when it is told, or at `at`."""
        return self.at(now, Symptom(kind, "", now if at is None else at))

    def health_state(self) -> HealthState:
        return self.state.health_state

    def changes(self) -> list[str]:
        return [change for _, change, _ in self.told]

    def asked(self, now: float) -> list[Effect]:
        return [
            effect
            for at, effect in self.done
            if at == now and isinstance(effect, (AskCanary, AskOwner, AskOrigin))
        ]

    def fences(self) -> list[tuple[float, Effect]]:
        return [(now, effect) for now, effect in self.done if isinstance(effect, (RaiseFence, LiftFence))]

    def fence_log(self) -> list[tuple[float, Effect]]:
        return [
            (now, effect)
            for now, effect in self.done
            if isinstance(effect, (RaiseFence, ExtendFence, LiftFence))
        ]


def healthy(policy: Policy = POLICY) -> Run:
    """A mirror on this node that is well, symptoms that can be read, a good origin; nothing told or done so
    far.
    """
    local = OwnerSeen(Owner.OK, "root")
    run = Run(policy, FENCE, GOOD, local, SymptomsUnknown(""), PingOk(0.0, 0.001), CanaryOk(0.0, 0.002))
    assert run.health_state() is HealthState.HEALTHY
    run.told.clear()
    run.causes.clear()
    run.done.clear()
    return run


def allowed_fences(policy: Policy, seconds: float) -> int:
    """Fences that evidence alone may raise in that time: each adds at least `flap_suspicion`; what is borne
    at once is `flap_suppress`, and no more can decay than a penalty of that and one outage loses.
    """
    most = policy.flap_suppress + policy.flap_penalty
    decay = most * math.log(2) / policy.flap_half_life_s * seconds
    return math.ceil((most + decay) / policy.flap_suspicion) + 1 + given_back(policy, seconds)


def given_back(policy: Policy, seconds: float) -> int:
    """Fences whose penalty may be given back: a suspicion and an outage for each kind of symptom that the
    origin turns out to give, which then counts no more for `symptom_refuted_s`.
    """
    return 2 * 3 * math.ceil(seconds / policy.symptom_refuted_s)
