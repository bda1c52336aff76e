"""What has happened: the history, since when conditions hold, what was counted. It outlives reloads. Each
change is logged once; nothing else is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from agent.catalogue import Message
from agent.daemon.lease import FenceCounters
from agent.daemon.metrics import LATE, OK, Counts, RouteClock, SymptomsSeen, Times
from agent.documents.drift import Finding
from agent.documents.status import Change, ConditionStatus
from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Event,
    LoopLate,
    PingFailed,
    PingOk,
    Probe,
    Route,
    SentinelClosed,
    Symptom,
    SymptomsUnknown,
    Tick,
)
from agent.health.machine import Transition
from agent.health.state import HealthState

_HISTORY = 100
_BAD = (HealthState.SUSPECT, HealthState.DOWN)


class Record:
    """Times are seconds since the epoch."""

    def __init__(self) -> None:
        self.log = structlog.get_logger()
        self.started_at = time.time()
        self.health_since = self.started_at
        self.route_since = self.started_at
        self.history: deque[Change] = deque(maxlen=_HISTORY)
        self.counts = Counts()
        self.ping_times = Times()
        self.canary_times = Times()
        self.routes = RouteClock(time.monotonic())
        self.fence = FenceCounters()
        self.symptoms = SymptomsSeen()
        self._conditions: dict[str, ConditionStatus] = {}
        self._drift: tuple[str, ...] = ()
        self._bugs: dict[str, str] = {}

    def transition(self, change: Transition) -> None:
        """The health state or the route changed."""
        now = time.time()
        fields = {"health_state": change.after, "route": change.route, "evidence": change.evidence}
        if change.before is not change.after:
            self.health_since = now
            self.counts.add("health_state_changes_total", change.after)
        if change.route_before is not change.route:
            self.route_since = now
            self.counts.add("route_changes_total", change.route, change.cause)
        self.history.append(Change(
            now, change.before, change.after, change.route, change.reason, change.evidence,
            change.route_before,
            change.cause,
        ))  # fmt: skip
        text = f"mirror {change.before} -> {change.after}, reads go to the {change.route}: {change.reason}"
        if change.evidence:
            text += f" ({change.evidence})"
        kind = Message.ROUTE if change.before is change.after else Message.HEALTH
        tell = self.log.warning if change.after in _BAD and change.matters else self.log.info
        tell(text, message_id=kind, **fields)

    def bug(self, done: str, error: Exception) -> None:
        """A bug of ours has shown itself; `done` says what came of it. The same is logged once."""
        self.counts.add("internal_errors_total")
        text = f"{done} because of a bug"
        if self._bugs.get(done) != repr(error):  # it may show itself each second
            self.log.error(text, exc_info=error, message_id=Message.INTERNAL)
        self._bugs[done] = repr(error)

    def symptom(self, symptom: Symptom) -> None:
        """A real read met a failure of the mirror."""
        if self.symptoms.add(symptom):
            text = f"a read met a failure of the mirror ({symptom.kind}): {symptom.detail}"
            self.log.info(text, message_id=Message.SYMPTOM, kind=symptom.kind)

    def drift(self, found: Sequence[Finding], health_state: HealthState, route: Route) -> None:
        """What others have changed: each finding that came or went is logged and kept in the history,
        once.
        """
        now = time.time()
        came = [one for one in found if one.what not in self._drift]
        gone = [what for what in self._drift if what not in {one.what for one in found}]
        self._drift = tuple(one.what for one in found)
        for one in came:
            text = f"Drift: {one.what}; try: {one.try_}"
            self.log.warning(
                text, message_id=Message.DRIFT, condition="Drift", reason=one.kind, subject=one.subject
            )
        for what in gone:
            text = f"Drift is over: {what}"
            self.log.info(text, message_id=Message.DRIFT, condition="Drift")
        for reason in (*(f"drift: {one.what}" for one in came), *(f"drift is over: {what}" for what in gone)):
            self.history.append(Change(now, health_state, health_state, route, reason, "", route, "drift"))

    def conditions(self, found: Iterable[ConditionStatus]) -> tuple[ConditionStatus, ...]:
        """The conditions with the time since when each holds or does not; changes are logged."""
        now = time.time()
        for condition in found:
            before = self._conditions.get(condition.type)
            if before is None or before.holds != condition.holds:
                self._conditions[condition.type] = replace(condition, since=now)
                if (
                    condition.holds or before is not None
                ) and condition.type != "Drift":  # each finding is told
                    self._tell(condition)
            elif (before.reason, before.message) != (condition.reason, condition.message):
                self._conditions[condition.type] = replace(condition, since=before.since)
        return tuple(self._conditions.values())

    def _tell(self, condition: ConditionStatus) -> None:
        if condition.holds:
            text = f"{condition.type}: {condition.message}"
            self.log.warning(
                text, message_id=Message.CONDITION, condition=condition.type, reason=condition.reason
            )
        else:
            text = f"{condition.type} is over"
            self.log.info(text, message_id=Message.CONDITION, condition=condition.type)


@dataclass(frozen=True, slots=True)
class Probed:
    """The last result of one kind of probe; `at` since the epoch."""

    ok: bool | None = None
    at: float | None = None
    ms: float | None = None
    detail: str = ""


class ProbeResults:
    """The last results of one session's probes; counts go to the record."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.ping = Probed()
        self.canary = Probed()

    def note(self, event: Event) -> None:
        """Keep what is published of it."""
        counts = self._record.counts
        match event:
            case Tick():  # as often as all the others together
                pass
            case PingOk():
                self.ping = _good(event.latency_s)
                counts.add("pings_total", OK)
                self._record.ping_times.add(event.latency_s)
            case PingFailed():
                self.ping = _bad(event.detail)
                counts.add("pings_total", event.failure)
            case LoopLate():
                counts.add("pings_total" if event.probe is Probe.PING else "canaries_total", LATE)
            case CanaryOk():
                self.canary = _good(event.latency_s)
                counts.add("canaries_total", OK)
                self._record.canary_times.add(event.latency_s)
            case CanaryFailed():
                self.canary = _bad(event.detail)
                counts.add("canaries_total", event.failure)
            case SentinelClosed():
                counts.add("sentinel_closed_total")
            case Symptom():
                self._record.symptom(event)
            case SymptomsUnknown():
                self._record.symptoms.readable(event.reason)
            case _:
                pass


def _good(latency_s: float) -> Probed:
    return Probed(ok=True, at=time.time(), ms=round(latency_s * 1000, 3))


def _bad(detail: str) -> Probed:
    return Probed(ok=False, at=time.time(), detail=detail)
