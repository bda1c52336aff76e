"""One picture, four renderings: status.json, the metrics, readiness, and what the operator's tools read in
them.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agent.daemon import metrics, publish
from agent.daemon.documents import LastProof
from agent.daemon.metrics import Counts, RouteClock, SymptomsSeen, Times
from agent.daemon.publish import View
from agent.documents.status import ConditionStatus, PublishedOrigin, Return, Truth
from agent.health.evidence import Mode, Route, Symptom, SymptomKind
from agent.health.state import Cause, HealthState
from tests.unit.views import DOWN, VIEW


def test_the_status_has_every_field_of_its_first_version() -> None:
    status = json.loads(publish.Encoder().encode(DOWN))
    assert (status["apiVersion"], status["kind"]) == ("nydus-agent/v1", "DaemonStatus")
    assert set(status) >= {
        "pid", "at", "started_at", "mode", "mode_reason", "health_state", "health_since", "health_reason",
        "route",
        "route_since", "route_reason", "fence", "mirror", "origins", "pin", "conditions", "history",
    }  # fmt: skip
    assert set(status["fence"]) >= {
        "active", "address", "port", "lease_left_ms", "refused_connects", "self_test", "self_test_reason",
    }  # fmt: skip
    assert set(status["mirror"]) >= {
        "url", "ping_ok", "ping_at", "ping_ms", "owner", "owner_detail", "canary_ok", "canary_at",
        "canary_ms",
    }  # fmt: skip
    assert status["origins"][0] == {"host": "registry.test:5000", "ok": True, "at": 990.0, "detail": ""}
    assert status["pin"] == {
        "route": "origin", "until": 2000.0, "reason": "maintenance", "by": "root", "at": None,
    }  # fmt: skip
    assert status["conditions"][0]["status"] == "False"
    assert status["history"] == [
        {
            "at": 999.0,
            "from": "healthy",
            "to": "down",
            "route": "origin",
            "route_from": "mirror",
            "cause": "refused",
            "reason": "ping refused",
            "evidence": "4003 refused",
        }
    ]
    assert json.loads(publish.Encoder().encode(VIEW))["pin"] is None


def test_the_status_says_why_and_what_the_return_waits_for() -> None:
    status = json.loads(publish.Encoder().encode(DOWN))
    assert (status["health_cause"], status["health_evidence"]) == ("refused", "4003 refused")
    assert (status["window_ms"], status["canary_window_ms"]) == (700, 1500)
    assert status["penalty"] == {"value": 1000.0, "held": True, "reuse": 750.0}
    assert status["return"] == {"waits_for": ["a clean canary", "3 more successes"], "seconds": 4.5}
    assert status["containerd"] == {"released_waiting": 1, "released_stalled": 2, "spared": 3}
    assert status["symptoms"] == {
        "watching": True, "problem": "",
        "counts": {"status": 0, "refused": 0, "decode": 0, "cut": 2, "fallback": 0, "counter": 0},
        "last": {"kind": "cut", "detail": "ended early", "at": 998.5},
    }  # fmt: skip
    assert json.loads(publish.Encoder().encode(VIEW))["symptoms"]["last"] is None


def test_a_reader_of_the_status_never_sees_half_a_document(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    publish.write(str(path), b"first\n", 0o644)
    opened = path.open("rb")
    publish.write(str(path), b"second, which is longer\n", 0o644)
    with opened:
        assert opened.read() == b"first\n"
    assert path.read_bytes() == b"second, which is longer\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["status.json"]


def samples(view: View) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render(view))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_metrics_can_be_scraped_and_tell_the_state() -> None:
    found = samples(DOWN)
    state = {name: value for (name, labels), value in found.items() for value in [value] if not labels}
    assert state["nydus_agent_fence_active"] == 1
    assert state["nydus_agent_fence_refused_connects_total"] == 3
    health_states = {
        labels[0][1]: value
        for (name, labels), value in found.items()
        if name == "nydus_agent_mirror_health_state"
    }
    assert health_states == {"unknown": 0, "healthy": 0, "suspect": 0, "down": 1, "probation": 0}
    assert found["nydus_agent_route_pinned", (("route", "origin"),)] == 1
    assert found["nydus_agent_origin_up", (("origin", "registry.test:5000"),)] == 1


def test_a_histogram_is_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    times = Times()
    for seconds in (0.0004, 0.0005, 0.0006, 0.7, 9.0):
        times.add(seconds)
    found = samples(replace(VIEW, ping_times=times.view()))
    name = "nydus_agent_ping_duration_seconds"
    buckets = {labels[0][1]: value for (kind, labels), value in found.items() if kind == f"{name}_bucket"}
    assert [buckets[bound] for bound in ("0.0005", "0.001", "0.6", "1.2", "3.0", "+Inf")] == [
        2,
        3,
        3,
        4,
        4,
        5,
    ]
    assert found[f"{name}_count", ()] == 5
    assert found[f"{name}_sum", ()] == pytest.approx(9.7015)


def test_the_seconds_in_each_route_add_up() -> None:
    clock = RouteClock(100.0)
    clock.tick(Route.MIRROR, 101.0)  # before the first look nothing is known
    clock.tick(Route.MIRROR, 104.0)
    clock.tick(Route.ORIGIN, 105.0)
    spent = clock.tick(Route.ORIGIN, 107.5)
    assert dict(spent) == {Route.MIRROR: 4.0, Route.ORIGIN: 2.5}
    found = samples(replace(VIEW, route_seconds=spent))
    assert found["nydus_agent_route_seconds_total", (("route", "mirror"),)] == 4.0


def test_a_return_that_nobody_can_tell_is_no_number() -> None:
    assert math.isnan(
        samples(replace(VIEW, return_=Return(("the pin",), None)))["nydus_agent_return_seconds", ()]
    )
    assert samples(DOWN)["nydus_agent_return_seconds", ()] == 4.5


def test_a_journal_that_dropped_lines_is_not_watched() -> None:
    seen = SymptomsSeen()
    assert samples(replace(VIEW, symptoms=seen.view()))["nydus_agent_symptoms_watched", ()] == 0
    seen.readable("")
    assert samples(replace(VIEW, symptoms=seen.view()))["nydus_agent_symptoms_watched", ()] == 1
    seen.readable("3 messages were dropped")
    assert samples(replace(VIEW, symptoms=seen.view()))["nydus_agent_symptoms_watched", ()] == 0
    assert seen.view().problem == "3 messages were dropped"


def test_a_symptom_is_kept_with_the_time_at_which_it_happened() -> None:
    seen = SymptomsSeen()
    seen.add(Symptom(SymptomKind.CUT, "ended early", time.monotonic() - 5))
    assert dict(seen.view().counts)["cut"] == 1
    last = seen.view().last
    assert last is not None
    assert time.time() - last.at == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    ("ages", "since", "around"),
    [
        ((20, 15, 10, 5, 0), 100.0, True),
        ((15, 10, 5, 0), 100.0, False),  # too few
        ((31, 15, 10, 5, 0), 100.0, False),  # too long ago
        ((20, 15, 10, 5, 0), 985.0, False),  # some of them met the fence, not the mirror
        ((40, 35, 20, 15, 10, 5, 0), 100.0, True),  # the last five count
    ],
)
def test_reads_that_fall_back_again_and_again_go_around_the_mirror(
    ages: tuple[int, ...], since: float, around: bool
) -> None:
    seen = SymptomsSeen()
    for age in ages:
        seen.add(Symptom(SymptomKind.FALLBACK, "fell back", 1000.0 - age))
        seen.add(Symptom(SymptomKind.CUT, "ended early", 1000.0 - age))
    assert seen.go_around(since, 1000.0) is around


def test_every_series_is_there_from_the_start() -> None:
    first = {key for key in samples(VIEW) if key[0] != "nydus_agent_origin_up"}
    assert first == {key for key in samples(DOWN) if key[0] != "nydus_agent_origin_up"}
    assert ("nydus_agent_pings_total", (("result", "silent"),)) in first
    assert ("nydus_agent_health_state_changes_total", (("health_state", "down"),)) in first
    changes = {labels for name, labels in first if name == "nydus_agent_route_changes_total"}
    assert changes == {(("cause", cause.value), ("route", route.value)) for cause in Cause for route in Route}
    for kind in SymptomKind:
        assert ("nydus_agent_symptoms_total", (("kind", kind.value),)) in first


def test_a_name_with_quotes_does_not_break_the_exposition() -> None:
    view = replace(VIEW, origins=(PublishedOrigin('odd"name\\', ok=True),))
    assert samples(view)["nydus_agent_origin_up", (("origin", 'odd"name\\'),)] == 1


def test_every_metric_is_documented_with_its_type_and_labels_and_nothing_else_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `nydus_agent_")]
    documented = {name.strip(" `"): (kind.strip(), labels.strip()) for name, kind, labels in rows}
    assert documented == {
        family.name + ("_total" if family.type == "counter" else ""): (_kind(family), _labels(family))
        for family in text_string_to_metric_families(metrics.render(VIEW))
    }


def _kind(family: Metric) -> str:
    names = {name for sample in family.samples for name in sample.labels}
    return "state set" if family.type == "gauge" and names & {family.name, "result"} else family.type


def _labels(family: Metric) -> str:
    """name: the values, where they are the daemon's own; only the name where they come from outside."""
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for name, value in sample.labels.items():
            if value not in values.setdefault(name, []):
                values[name].append(value)
    free = ("version", "origin", "type", "le")
    return "; ".join(
        name if name in free else f"{name}: {', '.join(found)}" for name, found in values.items()
    )


def test_a_counter_that_nobody_declared_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Counts().add("pings_total", "wonderful")


def ready(view: View, age_s: float = 0.5) -> tuple[int, str]:
    return publish.render_checks("readyz", publish.ready(view, age_s), verbose=False)


def test_a_node_that_serves_and_was_proved_is_ready() -> None:
    assert ready(VIEW) == (200, "ok\n")


def test_a_node_that_reads_from_the_origin_is_ready_because_it_works() -> None:
    assert ready(DOWN)[0] == 200


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"mode": Mode.UNKNOWN}, "applied"),
        ({"proof": LastProof(950.0, "check 3 (socket) failed: no answer")}, "proof"),
        ({"proof": LastProof()}, "proof"),
        ({"health_state": HealthState.DOWN}, "route"),
        ({"route": Route.ORIGIN, "origin": False}, "route"),
        ({"conditions": (ConditionStatus("ConfigInvalid", Truth.TRUE, message="line 3"),)}, "config"),
        ({"conditions": (ConditionStatus("FenceUnusable", Truth.TRUE),)}, "fence"),
    ],
)
def test_what_is_not_as_wanted_is_named(change: dict[str, object], name: str) -> None:
    status, text = ready(replace(VIEW, **change))  # type: ignore[arg-type]  # the fields differ
    assert status == 503
    assert [line.split()[0] for line in text.splitlines() if line.startswith("[-]")] == [f"[-]{name}"]
    assert text.endswith("readyz check failed\n")


def test_a_loop_that_is_stuck_is_not_live() -> None:
    assert publish.render_checks("livez", publish.live(1.0), verbose=False)[0] == 200
    assert publish.render_checks("livez", publish.live(4.0), verbose=False)[0] == 503


def test_verbose_lists_what_was_checked() -> None:
    text = publish.render_checks("readyz", publish.ready(VIEW, 0.5), verbose=True)[1]
    assert "[+]route ok: mirror: a ping and a canary were answered\n" in text
    assert text.endswith("readyz check passed\n")
