"""The metrics in Prometheus' text format 0.0.4, written by hand (the client library costs 4 MB). Names are an
interface: docs/metrics.md lists them, a test compares, and every series is there from the start.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent import __version__
from agent.daemon.view import View
from agent.health.evidence import Failure, Mode, Route
from agent.health.owner import Owner
from agent.health.state import Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "nydus_agent_"
LATE = "late"
OK = "ok"
_RESULTS = (OK, *(failure.value for failure in Failure), LATE)


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of the daemon, with the one label that it has (or "") and that label's values."""

    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)


COUNTERS = (
    Counter("pings_total", "Rounds of pings of the mirror, by result.", "result", _RESULTS),
    Counter("canaries_total", "Canaries through the mirror's data path, by result.", "result", _RESULTS),
    Counter("verdicts_total", "Changes of the verdict, by the new one.", "verdict", tuple(v.value for v in Verdict)),
    Counter("route_changes_total", "Changes of the route, by the new one.", "route", tuple(r.value for r in Route)),
    Counter("sentinel_closed_total", "Ends of the idle connection to the mirror."),
    Counter("inspections_requested_total", "Inspections that the daemon asked for."),
    Counter("reloads_total", "Reloads of the configuration, by result.", "result", (OK, "failed")),
    Counter("internal_errors_total", "Events that the daemon could not handle because of a bug."),
)


class Counts:
    """The daemon's counters; they live over reloads."""

    def __init__(self) -> None:
        self._counts = {(counter.name, value): 0 for counter in COUNTERS for value in counter.values}

    def add(self, name: str, value: str = "") -> None:
        """One more. KeyError for a counter or label value that is not declared."""
        self._counts[name, value] += 1

    def items(self) -> tuple[tuple[str, str, int], ...]:
        """(counter, label value, count)."""
        return tuple((name, value, count) for (name, value), count in self._counts.items())


def render(view: View) -> str:
    """The whole exposition."""
    return "".join(f"{line}\n" for line in _lines(view))


def _lines(view: View) -> Iterator[str]:
    yield from _gauge("build_info", "The running version.", [({"version": __version__}, 1)])
    yield from _gauge("start_timestamp_seconds", "When the daemon started.", [({}, view.started_at)])
    yield from _state("mode", "What the node was set up for.", Mode, view.mode)
    yield from _state("mirror_verdict", "What is thought of the mirror.", Verdict, view.verdict)
    yield from _state("route", "Where blob reads go.", Route, view.route)
    yield from _state("mirror_owner", "Who listens on the mirror's port.", Owner, view.owner)
    yield from _gauge("route_since_timestamp_seconds", "When the route changed last.", [({}, view.route_since)])
    yield from _fence(view)
    yield from _probes(view)
    origins = [({"origin": seen.host}, _truth(seen.ok)) for seen in view.origins if seen.ok is not None]
    yield from _gauge("origin_up", "Whether an origin could be reached the last time it was asked.", origins)
    pinned = [({"route": route.value}, int(view.pin is not None and view.pin.route is route)) for route in Route]
    yield from _gauge("route_pinned", "Whether the operator holds the route.", pinned)
    held = [({"type": condition.type}, int(condition.holds)) for condition in view.conditions]
    yield from _gauge("condition", "Problems that hold now.", held)
    yield from _gauge("last_proof_timestamp_seconds", "When the ladder of proof was climbed last (0: never).",
                      [({}, view.climb.at or 0)])  # fmt: skip
    yield from _counters(view)


def _fence(view: View) -> Iterator[str]:
    fence = view.fence
    yield from _gauge("fence_active", "Whether the mirror is fenced.", [({}, int(fence.active))])
    yield from _gauge("fence_lease_seconds", "What is left of the fence's lease.", [({}, fence.lease_left_ms / 1000)])
    tested = [({"result": result}, int(fence.self_test == result)) for result in ("ok", "failed", "not-run")]
    yield from _gauge("fence_self_test", "Result of the fence's self-test.", tested)
    for name, text, value in (
        ("fence_raised_total", "How often the fence was raised.", fence.raised),
        ("fence_refused_connects_total", "Connections to the mirror that the fence refused.", fence.refused),
        ("fence_destroyed_connections_total", "Connections of nydusd that were ended.", fence.destroyed),
    ):
        yield from _family(name, "counter", text, [({}, value)])


def _probes(view: View) -> Iterator[str]:
    for name, what, probed in (("ping", "ping", view.ping), ("canary", "canary", view.canary)):
        yield from _gauge(f"{name}_ok", f"Whether the last {what} succeeded.", [({}, _truth(probed.ok))])
        yield from _gauge(
            f"{name}_timestamp_seconds", f"When the last {what} ended (0: none yet).", [({}, probed.at or 0)]
        )
        seconds = (probed.ms or 0.0) / 1000
        yield from _gauge(f"{name}_latency_seconds", f"How long the last good {what} took.", [({}, seconds)])


def _counters(view: View) -> Iterator[str]:
    counts = {(name, value): count for name, value, count in view.counts}
    for counter in COUNTERS:
        samples = [({counter.label: value} if counter.label else {}, counts.get((counter.name, value), 0))
                   for value in counter.values]  # fmt: skip
        yield from _family(counter.name, "counter", counter.help, samples)


def _state(name: str, text: str, states: type[enum.StrEnum], now: enum.StrEnum) -> Iterator[str]:
    """A state set as a gauge: one sample for each state, the label named like the metric (OpenMetrics' StateSet)."""
    yield from _gauge(name, text, [({_PREFIX + name: state.value}, int(state is now)) for state in states])


def _gauge(name: str, text: str, samples: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield from _family(name, "gauge", text, samples)


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{_PREFIX}{name}{{{inner}}} {value}" if inner else f"{_PREFIX}{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _truth(ok: bool | None) -> float:  # noqa: FBT001 - a value, not an option
    """1, 0, or NaN for "not known"."""
    return float("nan") if ok is None else float(ok)
