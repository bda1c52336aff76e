"""The shipped alert rules, run by Prometheus' own promtool over the daemon's series: each alert fires where
it must and not where it must not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from agent.daemon import metrics
from tests.node import scene
from tests.package.deb import Package, in_root
from tests.unit.views import VIEW

RULES = scene.REPOSITORY / "packaging/examples/nydus-agent.rules.yml"
SHIPPED = "/usr/share/doc/nydus-node-agent/examples/nydus-agent.rules.yml"
SCRATCH = scene.REPOSITORY / "build/alerts.test.json"
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.M)
OF_THE_FLEET = ("NydusAgentAbsent", "NydusManyNodesSwitched")
STEP_S = 30
ON, OFF, GONE = "1x600", "0x600", ""
"""Values in promtool's notation, for five hours."""

ORIGIN = {'route{nydus_agent_route="origin"}': ON, 'route{nydus_agent_route="mirror"}': OFF}
NOTHING_APPLIED = {'mode{nydus_agent_mode="unknown"}': ON, 'mode{nydus_agent_mode="fence"}': OFF}
DOWN = {'mirror_health_state{nydus_agent_mirror_health_state="down"}': ON}
PINNED = {'route_pinned{route="origin"}': ON}


@dataclass(frozen=True)
class Case:
    """What differs from a node that is well, on how many of how many nodes, and what fires when."""

    change: Mapping[str, str]
    alerts: tuple[str, ...] = ()
    at: str = "1h30m"
    silent_at: str = ""
    """When nothing has fired yet."""
    nodes: int = 1
    of: int = 3


def condition(kind: str) -> dict[str, str]:
    return {f'condition{{type="{kind}"}}': ON}


def slow(share: str) -> dict[str, str]:
    """Two canaries in a step; `share` of them took between 0.4 and 0.6 s, the others less."""
    quick = {"0.2": share, "0.4": share}
    return {
        f'canary_duration_seconds_bucket{{le="{bound}"}}': quick.get(bound, "0+10x600")
        for bound in ("0.2", "0.4", "0.6", "1.2", "3.0", "+Inf")
    }


CASES = {
    "all is well": Case({}),
    "an agent is down": Case({"up": "1x10 0x590"}, ("NydusAgentDown",), "11m", "9m"),
    "a node reboots": Case({"up": "1x10 0x6 1x590"}, at="11m"),
    "no agent is there": Case(
        {'build_info{version="%s"}': GONE}, ("NydusAgentAbsent",), "11m", "9m", nodes=10, of=10
    ),
    "one agent was removed": Case({'build_info{version="%s"}': GONE}),
    "a crash loop": Case({"start_timestamp_seconds": "0+60x600"}, ("NydusAgentRestarts",), "10m", "1m"),
    "two upgrades": Case({"start_timestamp_seconds": "0x10 100x10 200x600"}, at="12m"),
    "a bug": Case({"internal_errors_total": "0x20 1x600"}, ("NydusAgentInternalErrors",), "12m", "9m"),
    "an old bug": Case({"internal_errors_total": "0x20 1x600"}, at="1h"),
    "the origin for long": Case(ORIGIN, ("NydusRouteOrigin",), "16m", "14m"),
    "nothing applied": Case({**ORIGIN, **NOTHING_APPLIED, "last_proof_timestamp_seconds": OFF}),
    "pinned to the origin": Case({**ORIGIN, **PINNED}, at="3h"),
    "back in time": Case(
        {'route{nydus_agent_route="origin"}': "1x20 0x580", 'route{nydus_agent_route="mirror"}': "0x20 1x580"}
    ),
    "held back": Case({"flap_held": "0x10 1x590"}, ("NydusMirrorFlapping",), "6m", "4m"),
    "suspicions": Case(
        {'route_changes_total{route="mirror",cause="refuted"}': "0+1x600"},
        ("NydusMirrorSuspectedOften",),
        "1h",
        "2m",
    ),
    "returns": Case({'route_changes_total{route="mirror",cause="recovered"}': "0+1x600"}),
    "both bad": Case(condition("BothBad"), ("NydusBothBad",), "1m", "0s"),
    "pinned to a bad mirror": Case(
        {**DOWN, 'route_pinned{route="mirror"}': ON}, ("NydusPinnedToBadMirror",), "3m", "1m"
    ),
    "pinned to a good mirror": Case({'route_pinned{route="mirror"}': ON}, at="3h"),
    "down and not pinned": Case(DOWN),
    "a pin for long": Case(PINNED, ("NydusPinForgotten",), "4h1m", "3h59m"),
    "a slow mirror": Case(slow("0+5x600"), ("NydusMirrorSlow",), "30m", "5m"),
    "one slow answer in twenty": Case(slow("0+9.5x600")),
    "no fence": Case(condition("FenceUnusable"), ("NydusFenceUnusable",), "6m", "4m"),
    "surviving connections": Case(condition("ConnectionsSurvive"), ("NydusFenceUnusable",), "6m", "4m"),
    "a stranger": Case(
        {'condition{type="ForeignListener"}': "0x10 1x590"}, ("NydusForeignListener",), "6m", "4m30s"
    ),
    "a journal that drops lines": Case({"symptoms_watched": OFF}, ("NydusSymptomsUnknown",), "16m", "14m"),
    "native, and no journal": Case(
        {
            "symptoms_watched": OFF,
            'mode{nydus_agent_mode="native"}': ON,
            'mode{nydus_agent_mode="fence"}': OFF,
        }
    ),
    "an old proof": Case({"last_proof_timestamp_seconds": "600x600"}, ("NydusProofStale",), "1h25m", "1h5m"),
    "a proof that is late": Case({"last_proof_timestamp_seconds": "600x600"}, at="1h5m"),
    "drift": Case(
        {**condition("Drift"), 'drift{kind="file-edited"}': ON}, ("NydusDrift",), at="16m", silent_at="14m"
    ),
    "a repair that is always undone": Case(
        {'condition{type="RepairGaveUp"}': "0x10 1x590"}, ("NydusRepairGaveUp",), "6m", "4m30s"
    ),
    "a file that nobody has looked at": Case(
        condition("ChangedSinceProof"), ("NydusAgentCondition",), "31m", "29m"
    ),
    "no room for the endpoint": Case(condition("EndpointPortTaken"), ("NydusAgentCondition",), "31m"),
    "a third of the fleet": Case(ORIGIN, ("NydusManyNodesSwitched",), "2m", "30s", nodes=3, of=9),
    "a tenth of the fleet": Case(ORIGIN, at="14m", nodes=4, of=40),
    "most of a small fleet": Case(ORIGIN, at="14m", nodes=2, of=3),
    "a drained rack": Case({**ORIGIN, **PINNED}, at="14m", nodes=5, of=10),
    "a new fleet": Case({**ORIGIN, **NOTHING_APPLIED, "last_proof_timestamp_seconds": OFF}, nodes=10, of=10),
}


def _series(name: str, node: str) -> str:
    """`name` or `name{labels}` of the rules' metrics, as that node's target has it."""
    bare, _, labels = name.removesuffix("}").partition("{")
    prefix = "" if bare == "up" else "nydus_agent_"
    pairs = [*filter(None, [labels.replace("%s", _version())]), 'job="nydus-agent"', f'instance="{node}"']
    return f"{prefix}{bare}{{{','.join(pairs)}}}"


def _version() -> str:
    found = re.search(r'build_info\{version="([^"]+)"', metrics.render(VIEW))
    assert found
    return found[1]


def _well(node: str) -> dict[str, str]:
    """A node that is well: the daemon's own series, as many of them as the rules look at."""
    asked = set(re.findall(r"nydus_agent_\w+", RULES.read_text()))
    found = {_series("up", node): ON}
    for line in metrics.render(VIEW).splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] in asked:
            found[_series(series.removeprefix("nydus_agent_"), node)] = f"{float(value):g}x600"
    found[_series("last_proof_timestamp_seconds", node)] = f"0+{STEP_S}x600"
    found[_series("symptoms_watched", node)] = ON
    return found


def _input(case: Case) -> dict[str, str]:
    series: dict[str, str] = {}
    for number in range(case.of):
        node = f"node-{number}"
        series |= _well(node)
        if number < case.nodes:
            changed = {_series(name, node): values for name, values in case.change.items()}
            assert changed.keys() <= series.keys(), "the daemon has no such series"
            series |= changed
    return {name: values for name, values in series.items() if values != GONE}


def _promtool_test(name: str, case: Case) -> dict[str, object]:
    wanted = {alert: 1 if alert in OF_THE_FLEET else case.nodes for alert in case.alerts}
    moments = [(case.at, wanted), *([(case.silent_at, {})] if case.silent_at else [])]
    return {
        "name": name,
        "interval": f"{STEP_S}s",
        "input_series": [{"series": series, "values": values} for series, values in _input(case).items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": moment,
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": count} for alert, count in firing.items()
                ],
            }
            for moment, firing in moments
        ],
    }


def _promtool(tests: list[dict[str, object]]) -> tuple[int, str]:
    SCRATCH.parent.mkdir(exist_ok=True)
    document = {"rule_files": [f"/src/{RULES.relative_to(scene.REPOSITORY)}"], "tests": tests}
    SCRATCH.write_text(json.dumps(document))  # JSON is YAML
    done = in_root(f"promtool test rules /src/{SCRATCH.relative_to(scene.REPOSITORY)}", "promtool")
    return done.returncode, done.stdout + done.stderr


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    fires = {alert for case in CASES.values() for alert in case.alerts}
    silent = {alert for case in CASES.values() if case.silent_at for alert in case.alerts}
    assert (sorted(fires), sorted(silent)) == (sorted(ALERTS), sorted(ALERTS))


def test_alerts_fire_where_they_must_and_nowhere_else() -> None:
    code, told = _promtool([_promtool_test(name, case) for name, case in CASES.items()])
    assert code == 0, told


@pytest.mark.parametrize("alert", ALERTS)
def test_the_cases_notice_when_an_alert_does_not_fire(alert: str) -> None:
    """Else a case could pass because nothing is looked at."""
    name, case = next((name, case) for name, case in CASES.items() if alert in case.alerts)
    healthy = Case({}, case.alerts, case.at, nodes=case.nodes, of=case.of)
    code, told = _promtool([_promtool_test(name, healthy)])
    assert code != 0
    assert alert in told


def test_every_alert_says_what_to_do() -> None:
    for name, text in _rules().items():
        for key in ("severity: ", "summary: ", "description: ", 'command: "'):
            assert text.count(key) == 1, (name, key)
        assert re.search(r"severity: (critical|warning|info)\b", text), name
        assert text.count("\n        # "), f"{name}: no reason for its threshold"


def test_every_alert_is_documented_with_its_severity() -> None:
    page = (scene.REPOSITORY / "docs/metrics.md").read_text()
    severities = {name: re.findall(r"severity: (\w+)", text) for name, text in _rules().items()}
    documented = re.findall(r"^\| `(Nydus\w+)` \| (\w+) \|", page, re.M)
    assert [(name, [severity]) for name, severity in documented] == list(severities.items())


def _rules() -> dict[str, str]:
    parts = re.split(r"^ +- alert: (\w+)$", RULES.read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_package_brings_the_rules_and_promtool_takes_them(package: Package) -> None:
    assert package.read(SHIPPED) == RULES.read_text()
    done = in_root(
        f"promtool check rules --lint=all --lint-fatal /src/{RULES.relative_to(scene.REPOSITORY)}", "promtool"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_promtool_has_nothing_to_say_about_the_metrics() -> None:
    done = in_root(f"promtool check metrics <<'END'\n{metrics.render(VIEW)}END\n", "promtool")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
