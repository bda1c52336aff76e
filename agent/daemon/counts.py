"""What the daemon counts: events, how long probes took, the seconds of each route, symptoms. How it is shown
is agent.daemon.metrics' business.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from agent.daemon.view import Distribution, Symptoms, SymptomSeen
from agent.health.evidence import Failure, Route, Symptom, SymptomKind
from agent.health.state import Cause, HealthState

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

    def view(self) -> Symptoms:
        """As it is published."""
        return Symptoms(self._watching, self.problem, tuple(self._counts.items()), self._last)
