"""What the daemon counts, and how it shows it: Prometheus' text format 0.0.4, written by hand (the client
library costs 4 MB).

Names are an interface: docs/metrics.md lists them, a test compares, and every series is there from the start.
"""

from __future__ import annotations

import bisect
import enum
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent import __version__
from agent.daemon.publish import Distribution, View
from agent.documents.drift import Kind
from agent.documents.status import PenaltyStatus, SymptomSeen, SymptomsStatus
from agent.health.evidence import Failure, Mode, Owner, Route, Symptom, SymptomKind
from agent.health.state import Cause, HealthState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "nydus_agent_"
_NAN = float("nan")
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


# How it is shown


def render(view: View) -> str:
    """The whole exposition."""
    return "".join(f"{line}\n" for line in _lines(view))


def _lines(view: View) -> Iterator[str]:
    yield from _gauge("build_info", "The running version.", 1, version=__version__)
    yield from _gauge("start_timestamp_seconds", "When the daemon started.", view.started_at)
    yield from _state("mode", "What the node was set up for.", Mode, view.mode)
    yield from _health_state(view)
    yield from _route(view)
    yield from _fence(view)
    yield from _probes(view)
    yield from _symptoms(view)
    origins = [({"origin": seen.host}, _truth(seen.ok)) for seen in view.origins if seen.ok is not None]
    yield from _family(
        "origin_up", "gauge", "Whether an origin could be reached the last time it was asked.", origins
    )
    held = [({"type": condition.type}, int(condition.holds)) for condition in view.conditions]
    yield from _family("condition", "gauge", "Problems that hold now.", held)
    drifted = [({"kind": kind.value}, sum(one.kind is kind for one in view.drift)) for kind in Kind]
    yield from _family("drift", "gauge", "What others have changed of what was applied, by kind.", drifted)
    proved = view.proof.at or 0
    yield from _gauge("last_proof_timestamp_seconds", "When the checks ran last (0: never).", proved)
    yield from _counters(view)


def _health_state(view: View) -> Iterator[str]:
    yield from _state("mirror_health_state", "What is thought of the mirror.", HealthState, view.health_state)
    since = view.health_since
    yield from _gauge("mirror_health_since_timestamp_seconds", "When the health state changed last.", since)
    yield from _state("mirror_owner", "Who listens on the mirror's port.", Owner, view.mirror.owner)
    penalty = view.penalty or PenaltyStatus()
    yield from _gauge(
        "flap_penalty", "What the mirror's outages of late add up to; it halves in minutes.", penalty.value
    )
    yield from _gauge(
        "flap_penalty_reuse", "Below this penalty a mirror that was held back is used again.", penalty.reuse
    )
    yield from _gauge(
        "flap_held", "Whether the mirror is held back for its outages of late.", int(penalty.held)
    )


def _route(view: View) -> Iterator[str]:
    yield from _state("route", "Where blob reads go.", Route, view.route)
    yield from _gauge("route_since_timestamp_seconds", "When the route changed last.", view.route_since)
    spent = dict(view.route_seconds)
    seconds = [({"route": route.value}, spent.get(route, 0.0)) for route in Route]
    yield from _family("route_seconds_total", "counter", "For how long reads went each way.", seconds)
    back = _NAN if view.return_ is None or view.return_.seconds is None else view.return_.seconds
    yield from _gauge(
        "return_seconds", "The earliest time until reads go to the mirror (NaN: nobody can tell).", back
    )
    pinned = [
        ({"route": route.value}, int(view.pin is not None and view.pin.route is route)) for route in Route
    ]
    yield from _family("route_pinned", "gauge", "Whether the operator holds the route.", pinned)
    ends = 0 if view.pin is None else view.pin.until
    yield from _gauge(
        "route_pin_end_timestamp_seconds", "When the operator's pin ends (0: there is none).", ends
    )


def _fence(view: View) -> Iterator[str]:
    fence = view.fence
    yield from _gauge("fence_active", "Whether the mirror is fenced.", int(fence.active))
    yield from _gauge("fence_lease_seconds", "What is left of the fence's lease.", fence.lease_left_ms / 1000)
    tested = [({"result": result}, int(fence.self_test == result)) for result in ("ok", "failed", "not-run")]
    yield from _family("fence_self_test", "gauge", "Result of the fence's self-test.", tested)
    for name, text, value in (
        ("fence_raised_total", "How often the fence was raised.", fence.raised),
        ("fence_renewed_total", "How often the fence's lease was renewed.", fence.renewed),
        (
            "fence_refused_connects_total",
            "Connections to the mirror that the fence refused.",
            fence.refused_connects,
        ),
        (
            "fence_destroyed_connections_total",
            "Connections of nydusd that were ended.",
            fence.destroyed_connections,
        ),
    ):  # fmt: skip
        yield from _family(name, "counter", text, [({}, value)])
    sockets = view.containerd
    ended = [
        ({"state": "waiting"}, sockets.released_waiting),
        ({"state": "stalled"}, sockets.released_stalled),
    ]
    text = "Connections of containerd that were ended, by what each was doing."
    yield from _family("fence_containerd_released_total", "counter", text, ended)
    text = "Connections of containerd to the fenced mirror that are left alone now."
    yield from _gauge("fence_containerd_spared", text, sockets.spared)


def _probes(view: View) -> Iterator[str]:
    mirror = view.mirror
    for name, ok, at, took_ms, window_ms, times in (
        ("ping", mirror.ping_ok, mirror.ping_at, mirror.ping_ms, view.window_ms, view.ping_times),
        ("canary", mirror.canary_ok, mirror.canary_at, mirror.canary_ms, view.canary_window_ms,
         view.canary_times),
    ):  # fmt: skip
        yield from _gauge(f"{name}_ok", f"Whether the last {name} succeeded.", _truth(ok))
        yield from _gauge(f"{name}_timestamp_seconds", f"When the last {name} ended (0: none yet).", at or 0)
        last_s = (took_ms or 0.0) / 1000
        yield from _gauge(f"{name}_latency_seconds", f"How long the last good {name} took.", last_s)
        yield from _gauge(f"{name}_window_seconds", f"How long a {name} may take (it adapts).",
                          (window_ms or 0) / 1000)  # fmt: skip
        yield from _histogram(f"{name}_duration_seconds", f"How long good answers to a {name} took.", times)


def _symptoms(view: View) -> Iterator[str]:
    watched = "Whether what real reads meet is seen (0: unknown, not quiet)."
    symptoms = view.symptoms or SymptomsStatus()
    yield from _gauge("symptoms_watched", watched, int(symptoms.watching))
    kinds = [({"kind": kind}, count) for kind, count in symptoms.counts.items()]
    yield from _family("symptoms_total", "counter", "Symptoms of real reads, by kind.", kinds)


def _counters(view: View) -> Iterator[str]:
    counts = {(name, values): count for name, values, count in view.counts}
    for counter in COUNTERS:
        names = [name for name, _ in counter.labels]
        samples = [(dict(zip(names, values, strict=True)), counts.get((counter.name, values), 0))
                   for values in counter.series()]  # fmt: skip
        yield from _family(counter.name, "counter", counter.help, samples)


def _state(name: str, text: str, states: type[enum.StrEnum], now: enum.StrEnum) -> Iterator[str]:
    """A state set as a gauge: one sample for each state, the label named like the metric (OpenMetrics'
    StateSet).
    """
    samples = [({_PREFIX + name: state.value}, int(state is now)) for state in states]
    yield from _family(name, "gauge", text, samples)


def _gauge(name: str, text: str, value: float, **labels: str) -> Iterator[str]:
    yield from _family(name, "gauge", text, [(labels, value)])


def _histogram(name: str, text: str, times: Distribution) -> Iterator[str]:
    bounds = (*(str(bound) for bound in BOUNDS_S), "+Inf")
    buckets = [({"le": bound}, count) for bound, count in zip(bounds, times.cumulative, strict=True)]
    yield from _family(name, "histogram", text, buckets, suffix="_bucket")
    yield _sample(f"{name}_sum", {}, times.sum_s)
    yield _sample(f"{name}_count", {}, times.cumulative[-1])


def _family(
    name: str, kind: str, text: str, samples: Iterable[tuple[dict[str, str], float]], *, suffix: str = ""
) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
    for labels, value in samples:
        yield _sample(name + suffix, labels, value)


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{_PREFIX}{name}{{{inner}}} {value}" if inner else f"{_PREFIX}{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _truth(ok: bool | None) -> float:  # noqa: FBT001 - a value, not an option
    """1, 0, or NaN for "not known"."""
    return _NAN if ok is None else float(ok)
