"""What the daemon counts, and how long its probes took. How it is shown is agent.daemon.metrics' business."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from agent.daemon.view import Distribution
from agent.health.evidence import Failure, Route
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
