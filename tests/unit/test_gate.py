"""When a change may begin: restarts are the operator's, or within the budget, or at this node's turn; and
never because the mirror alone is at fault.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent import paths
from agent.apply import gate
from agent.apply.execute import Stop
from agent.apply.gate import Urgency
from agent.commands import apply
from agent.config.model import ApplyConfig, Config, ContainerdConfig, FleetConfig, LogLevel, RestartPolicy
from agent.console import Console, exit_of
from agent.errors import AgentError, ApplyError, Exit, HttpError
from agent.ports import HttpAnswer, TlsSight
from agent.steps import Plan, UnitStep
from tests.fakes.http import answer
from tests.unit import plan_node
from tests.unit.plan_node import PLAIN, SECURE
from tests.unit.proved_node import CONFIG, ProvedNode

NEVER = replace(CONFIG, containerd=ContainerdConfig(restart=RestartPolicy.NEVER))
CONTAINERD, SNAPSHOTTER = paths.CONTAINERD_UNIT, paths.SNAPSHOTTER_UNIT


def verbose(config: Config, level: LogLevel) -> Config:
    """The snapshotter has to restart for this, containerd has not."""
    return replace(config, snapshotter=replace(config.snapshotter, log_level=level))


def refused(made: ProvedNode, urgency: Urgency = Urgency.BY_HAND) -> AgentError:
    before = made.node.files.inodes(), jobs(made)
    with pytest.raises(ApplyError) as caught:
        made.apply(urgency)
    assert (made.node.files.inodes(), jobs(made)) == before, "something was touched"
    return caught.value


def jobs(made: ProvedNode) -> list[tuple[str, ...]]:
    return [call for call in made.node.faults.calls if call[0] == "job"]


def units(plan: Plan) -> list[str]:
    return [f"{step.verb.value} {step.unit}" for step in plan.steps if isinstance(step, UnitStep)]


def test_a_change_whose_restart_is_left_to_the_operator_goes_live_as_a_whole_or_not_at_all() -> None:
    made = ProvedNode(NEVER)
    error = refused(made)
    assert (error.code, error.try_) == ("NNA0416", "nydus-agent apply --now")
    assert exit_of(error) is Exit.NOT_AS_WANTED
    assert refused(made, Urgency.BY_ITSELF).code == "NNA0416"
    outcome = made.apply(Urgency.NOW)
    assert outcome.generation == 1
    assert outcome.proof is not None
    assert outcome.proof.checks[4].state.value == "ok"
    assert made.plan().empty


def test_a_change_that_leaves_containerd_alone_needs_no_word_of_the_operator() -> None:
    made = ProvedNode(NEVER)
    made.apply(Urgency.NOW)
    made.config = verbose(NEVER, LogLevel.DEBUG)
    assert made.apply().generation == 2


def test_a_restart_by_order_that_does_not_help_is_undone_although_restarts_are_left_to_the_operator() -> None:
    made = ProvedNode(NEVER)
    made.node.load_plugins = lambda: made.node.containerd.plugin_facts
    with pytest.raises(ApplyError, match="NNA0653"):
        made.apply(Urgency.NOW)
    assert made.etc() == made.before


def flip(made: ProvedNode, count: int, urgency: Urgency = Urgency.BY_HAND) -> None:
    """So many changes that restart the snapshotter."""
    for number in range(count):
        level = LogLevel.DEBUG if made.config.snapshotter.log_level is LogLevel.INFO else LogLevel.INFO
        made.config = verbose(made.config, level)
        assert made.apply(urgency).changed, number
        made.node.clock.advance(150)


def test_what_begins_by_itself_stops_at_half_and_leaves_the_rest_to_people() -> None:
    made = ProvedNode()
    made.apply(Urgency.BY_ITSELF)
    flip(made, 3, Urgency.BY_ITSELF)
    made.config = verbose(made.config, LogLevel.TRACE)
    assert refused(made, Urgency.BY_ITSELF).code == "NNA0415"
    assert made.apply(Urgency.BY_HAND).changed


def test_a_change_without_a_restart_is_made_when_the_budget_is_used_up() -> None:
    made = ProvedNode(replace(CONFIG, apply=ApplyConfig(restarts_per_hour=1)))
    made.apply()
    gate.note_restart(made.node.ports, SNAPSHOTTER)
    include = replace(made.config.registries, include=("docker.io",))
    made.config = replace(made.config, registries=include)
    assert units(made.plan()) == []
    assert made.apply().changed


# ── the mirror alone
# ──────────────────────────────────────────────────────────────────────────────────────────────────


def dead(_: object) -> HttpAnswer:
    raise HttpError("NNA0821", "no answer", cause="connection refused")


def hung(_: object) -> HttpAnswer:
    raise HttpError("NNA0821", "no answer", cause="timed out after 3 s")


def lying(_: object) -> HttpAnswer:
    return answer(404, b"<html>nothing here</html>")


def overloaded(_: object) -> HttpAnswer:
    return answer(429)


Fault = Callable[[object], HttpAnswer]
FAULTS: list[Fault] = [dead, hung, lying, overloaded]


def guarded() -> ProvedNode:
    """Applied for a plain and an https registry while the mirror was well and had a TLS rule."""
    config = plan_node.config(PLAIN, SECURE)
    made = ProvedNode(config)
    node = made.node
    node.files.put(SECURE.ca, b"CA\n")
    node.tls.certificates[SECURE.host, SECURE.ca] = ""
    node.tls.sight_of = lambda: TlsSight.TLS
    registry = answer(404, b'{"errors": []}')
    for host in (PLAIN.host, SECURE.host):
        node.http.on(canary(host), registry, via=config.mirror.url)
    made.apply()
    assert b'"use_http": true' in node.files.files[paths.NYDUSD_TEMPLATE].content
    assert made.plan().empty
    return made


def canary(host: str) -> str:
    return f"http://{host}/v2/nydus-agent/canary/blobs/sha256:{'c' * 64}"


def break_mirror(made: ProvedNode, fault: Fault) -> None:
    http, mirror = made.node.http, made.config.mirror
    for url in (
        canary(PLAIN.host),
        canary(SECURE.host),
        f"http://127.0.0.1:{made.config.endpoint.port}/canary",
    ):
        http.on(url, fault, via=mirror.url)
    http.on(mirror.ping_url, fault)
    http.on(mirror.metrics_url, fault)
    made.node.tls.sight_of = lambda: TlsSight.NOBODY


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("health_state", ["suspect", "down"])
def test_a_mirror_that_is_at_fault_restarts_nothing(fault: Fault, health_state: str) -> None:
    made = guarded()
    break_mirror(made, fault)
    made.say(route="origin", health_state=health_state)
    assert units(made.plan()) == []
    before = jobs(made)
    outcome = made.apply(Urgency.BY_ITSELF)
    assert units(outcome.plan) == []
    assert jobs(made) == before
    assert b'"use_http": true' in made.node.files.files[paths.NYDUSD_TEMPLATE].content


@pytest.mark.parametrize("fault", [dead, hung, overloaded])
def test_nor_does_one_of_which_the_agent_does_not_know_yet(fault: Fault) -> None:
    made = guarded()
    break_mirror(made, fault)
    assert units(made.plan()) == []


def test_a_mirror_that_is_well_and_lost_its_tls_rule_is_obeyed() -> None:
    made = guarded()
    made.node.http.on(canary(SECURE.host), lying, via=made.config.mirror.url)
    made.say(health_state="healthy")
    assert units(made.plan()) == [f"restart {SNAPSHOTTER}"]


# ── this node's turn
# ──────────────────────────────────────────────────────────────────────────────────────────────────


def waited(
    made: ProvedNode, window_s: int, *, up_s: float = 100_000.0, stop: Stop | None = None
) -> tuple[float, str]:
    """Seconds that a change waits for its turn, and what it says."""
    made.node.clock.advance(max(0.0, up_s - made.node.clock.monotonic()))
    config = replace(made.config, fleet=FleetConfig(restart_window_s=window_s))
    out = io.StringIO()
    before = made.node.clock.monotonic()
    apply.await_turn(config, made.node.ports, stop or Stop(), Console(out, out))
    return made.node.clock.monotonic() - before, out.getvalue()


def test_nodes_that_are_upgraded_at_one_moment_restart_each_at_its_own_turn() -> None:
    took, told = waited(ProvedNode(), 3600)
    assert 0 < took < 3600
    assert "containerd.service will be restarted in" in told
    assert waited(ProvedNode(), 3600)[0] == pytest.approx(took), "a node keeps its turn"
    assert waited(ProvedNode(), 36)[0] == pytest.approx(took / 100)


def test_nobody_waits_without_a_window_or_without_a_restart_or_right_after_the_boot() -> None:
    assert waited(ProvedNode(), 0)[0] == 0
    made = ProvedNode()
    made.apply()
    assert waited(made, 3600)[0] == 0
    fresh = ProvedNode()
    fresh.node.clock.reboot()
    assert waited(fresh, 3600, up_s=apply.JUST_BOOTED_S - 1)[0] == 0
    assert waited(fresh, 3600, up_s=apply.JUST_BOOTED_S)[0] > 0


def test_a_node_that_waits_for_its_turn_can_be_stopped() -> None:
    with pytest.raises(ApplyError) as caught:
        waited(ProvedNode(), 3600, stop=Stop("SIGTERM"))
    assert caught.value.code == "NNA0404"
