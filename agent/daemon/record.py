"""What has happened: the history, since when conditions hold, which symptoms were seen, how often something
was and how long it took. It outlives reloads. Each change is logged once; nothing else is. How it is shown is
agent.daemon.metrics' business.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from agent.catalogue import Message
from agent.daemon.lease import FenceCounters
from agent.daemon.publish import Distribution
from agent.documents.drift import Finding
from agent.documents.status import Change, ConditionStatus, SymptomSeen, SymptomsStatus
from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Event,
    Failure,
    LoopLate,
    PingFailed,
    PingOk,
    Probe,
    Route,
    SentinelClosed,
    Symptom,
    SymptomKind,
    SymptomsUnknown,
    Tick,
)
from agent.health.state import Cause, HealthState, Transition

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
        """A bug of ours has shown itself; `done` says what came of it."""
        self.counts.add("internal_errors_total")
        text = f"{done} because of a bug"
        self.log.error(text, exc_info=error, message_id=Message.INTERNAL)

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


LATE = "late"
OK = "ok"
_RESULTS = (OK, *(failure.value for failure in Failure), LATE)
_ROUTES = tuple(route.value for route in Route)
_CAUSES = tuple(cause.value for cause in Cause)

BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 1.2, 3.0)
"""Upper bounds of the histograms' buckets. A ping on the loopback takes half a millisecond, the data path of
a loaded dfdaemon was seen to take 0.55 s; 0.6 and 1.2 s are the default windows, 3 s is the longest that a
window grows to."""


_QUIET_S = 600.0
"""A symptom is told again after its kind was not seen for this long: a broken mirror must not fill the
journal."""
_AROUND, _AROUND_S = 5, 30.0
"""So many reads that went around the mirror within this time are no accident."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of the daemon, with its labels and the values that each can have."""

    name: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def series(self) -> Iterator[tuple[str, ...]]:
        """The labels' values, one combination after the other."""
        return itertools.product(*(values for _, values in self.labels))


COUNTERS = (
    Counter("pings_total", "Rounds of pings of the mirror, by result.", (("result", _RESULTS),)),
    Counter("canaries_total", "Canaries through the mirror's data path, by result.", (("result", _RESULTS),)),
    Counter(
        "health_state_changes_total",
        "Changes of the health state, by the new one.",
        (("health_state", tuple(HealthState)),),
    ),
    Counter(
        "route_changes_total",
        "Changes of the route, by the new one and why.",
        (("route", _ROUTES), ("cause", _CAUSES)),
    ),
    Counter("sentinel_closed_total", "Ends of the idle connection to the mirror."),
    Counter("inspections_requested_total", "Inspections that the daemon asked for."),
    Counter("reloads_total", "Reloads of the configuration, by result.", (("result", (OK, "failed")),)),
    Counter("internal_errors_total", "Events that the daemon could not handle because of a bug."),
)


class Counts:
    """The counters."""

    def __init__(self) -> None:
        self._counts = {(counter.name, values): 0 for counter in COUNTERS for values in counter.series()}

    def add(self, name: str, *values: str) -> None:
        """One more. KeyError for a counter or a label's value that is not declared."""
        self._counts[name, values] += 1

    def items(self) -> tuple[tuple[str, tuple[str, ...], int], ...]:
        """(counter, labels' values, count)."""
        return tuple((name, values, count) for (name, values), count in self._counts.items())


class Times:
    """How long something took, in buckets."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One more; a bound belongs to its bucket."""
        self._buckets[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def view(self) -> Distribution:
        """As it is published."""
        return Distribution(tuple(itertools.accumulate(self._buckets)), self._sum_s)


class RouteClock:
    """For how long reads went which way. It is told the route at each change and whenever somebody looks."""

    def __init__(self, now: float) -> None:
        self._seconds: dict[Route, float] = dict.fromkeys(Route, 0.0)
        self._route: Route | None = None
        self._at = now

    def tick(self, route: Route, now: float) -> tuple[tuple[Route, float], ...]:
        """The seconds in each route up to `now` (monotonic), from which on it is `route`."""
        if self._route is not None:
            self._seconds[self._route] += now - self._at
        self._route, self._at = route, now
        return tuple(self._seconds.items())


class SymptomsSeen:
    """What real reads have told since the daemon's start."""

    def __init__(self) -> None:
        self.problem = ""
        """Why they cannot be seen now; "" = they can, or nobody looks yet."""
        self.total = 0
        self._watching = False
        self._counts: dict[str, int] = dict.fromkeys(SymptomKind, 0)
        self._seen_at: dict[str, float] = {}
        self._last: SymptomSeen | None = None
        self._refused: Symptom | None = None
        self._around: deque[float] = deque(maxlen=_AROUND)

    def add(self, symptom: Symptom) -> bool:
        """One more; whether it is the first of its kind after a quiet while."""
        self._counts[symptom.kind] += 1
        self.total += 1
        if symptom.kind is SymptomKind.FALLBACK:
            self._around.append(symptom.at)
        elif symptom.kind is SymptomKind.REFUSED:
            self._refused = symptom
        self._last = SymptomSeen(symptom.kind, symptom.detail, time.time() - time.monotonic() + symptom.at)
        before, self._seen_at[symptom.kind] = self._seen_at.get(symptom.kind, float("-inf")), symptom.at
        return symptom.at - before >= _QUIET_S

    def readable(self, problem: str) -> None:
        """From now on they are seen (""), or are not."""
        self.problem, self._watching = problem, not problem

    def go_around(self, since: float, now: float) -> bool:
        """Whether reads go around the mirror again and again, by nydusd's own fallback; none before `since`
        counts."""
        return len(self._around) == _AROUND and self._around[0] > max(since, now - _AROUND_S)

    def refused(self, now: float) -> str:
        """What the mirror has refused last; "": nothing of late."""
        last = self._refused
        return last.detail if last is not None and now - last.at < _QUIET_S else ""

    def view(self) -> SymptomsStatus:
        """As it is published."""
        return SymptomsStatus(self._watching, self.problem, dict(self._counts), self._last)
