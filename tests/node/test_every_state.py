"""The agent is told to read its configuration, or is restarted, whatever it thinks of the mirror: reads go
where the evidence says, before and after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.node import parts, scene
from tests.node.boot import Node

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")

AGENT = "nydus-agent.service"
FLEET = "/etc/nydus-agent/conf.d/60-fleet.toml"
SLOT_S = 12.0
"""How long this node waits for its turn to return."""
SUSPECT_S = 3.0
WATCHED_S = 4.0
SLOT = """
import sys
from agent.health.policy import return_delay_s
from agent.node.machine import node_identity
print(round(float(sys.argv[1]) / (return_delay_s(node_identity(), 1_000_000) / 1_000_000)))
"""


def reload(node: Node) -> None:
    node.run(["systemctl", "reload", AGENT])


def restart(node: Node) -> None:
    node.run(["systemctl", "restart", AGENT])


Act = Callable[[Node], None]
ACTS = pytest.mark.parametrize("act", [reload, restart])


@pytest.fixture
def ready(stage: scene.Stage) -> Iterator[scene.Stage]:
    """The mirror is well, and the agent knows of nothing else."""
    scene.fresh_agent(stage.node, 120)
    yield stage
    stage.node.run(["rm", "-f", FLEET])


def wait_for(node: Node, health_state: str, deadline_s: float = 30) -> None:
    node.wait_until(
        lambda: scene.daemon_status(node)["health_state"] == health_state, deadline_s, health_state
    )


def stays(stage: scene.Stage, route: str, act: Act) -> None:
    """The act moves no read: for a while after it the route is the same, by history and by each look."""
    at = time.time()
    act(stage.node)
    while time.time() < at + WATCHED_S:
        status = scene.daemon_status(stage.node)
        assert status["route"] == route, status["history"][-3:]
        time.sleep(0.1)
    status = scene.daemon_status(stage.node)
    assert status["at"] > at
    assert {entry["route"] for entry in status["history"] if entry["at"] > at} <= {route}


def returns(stage: scene.Stage, act: Act, reader: scene.Reader) -> float:
    """The act moves no read to the mirror before that is due, and one does go there then, once and for all:
    when (epoch seconds)."""
    at, served = time.time(), stage.mirror.stats()["blob_requests"]
    act(stage.node)
    while (now := stage.mirror.stats()["blob_requests"]) == served:
        assert time.time() < at + 60, scene.daemon_status(stage.node)
        time.sleep(0.02)
    back = time.time()
    reader.wait_for(10)
    routes = [entry["route"] for entry in scene.daemon_status(stage.node)["history"] if entry["at"] > at]
    assert now > served
    assert routes.count("mirror") <= 2, "to health, and to nothing else"
    assert "origin" not in routes[routes.index("mirror") :]
    assert reader.errors() == []
    return back


@ACTS
def test_before_anything_is_known_a_mirror_that_is_well_is_used(ready: scene.Stage, act: Act) -> None:
    ready.node.run(["systemctl", "stop", AGENT])
    with scene.cold_reader(ready.node, ready.ref("reader-nydus"), reads=5) as reader:

        def begin(node: Node) -> None:
            node.run(["systemctl", "start", AGENT])
            act(node)

        stays(ready, "mirror", begin)
        assert reader.errors() == []


@ACTS
def test_a_mirror_that_is_well_stays_in_use(ready: scene.Stage, act: Act) -> None:
    with scene.cold_reader(ready.node, ready.ref("reader-nydus"), reads=5) as reader:
        served = ready.mirror.stats()["blob_requests"]
        stays(ready, "mirror", act)
        assert ready.mirror.stats()["blob_requests"] > served
        assert reader.errors() == []


@ACTS
def test_a_mirror_under_suspicion_is_not_used_before_the_suspicion_is_over(
    ready: scene.Stage, act: Act
) -> None:
    with scene.cold_reader(ready.node, ready.ref("reader-nydus"), reads=5) as reader:
        ready.mirror.fault("status", status=429, match="blobs/sha256", times=1)
        wait_for(ready.node, "suspect", 10)
        began = scene.daemon_status(ready.node)["health_since"]
        took_s = returns(ready, act, reader) - began
        print(f"{act.__name__} under suspicion: in use again {took_s:.1f} s after it began")
        assert took_s > SUSPECT_S


@ACTS
def test_a_mirror_that_is_down_is_not_used(ready: scene.Stage, act: Act) -> None:
    with scene.cold_reader(ready.node, ready.ref("reader-nydus"), reads=5) as reader:
        ready.mirror.unit.freeze()
        try:
            wait_for(ready.node, "down")
            stays(ready, "origin", act)
            assert reader.errors() == []
        finally:
            ready.mirror.unit.thaw()


@ACTS
def test_a_mirror_that_is_down_is_used_while_no_origin_answers(ready: scene.Stage, act: Act) -> None:
    ready.registry.unit.stop()
    ready.mirror.unit.freeze()
    try:
        wait_for(ready.node, "down")
        scene.wait_for_route(ready.node, "mirror", 15)
        stays(ready, "mirror", act)
    finally:
        ready.mirror.unit.thaw()
        ready.registry = parts.start_registry(ready.node)


@ACTS
def test_a_mirror_on_probation_is_not_used_before_the_nodes_turn(ready: scene.Stage, act: Act) -> None:
    node = ready.node
    path = {"PYTHONPATH": "/usr/share/nydus-node-agent"}
    window_s = node.run(["python3", "-c", SLOT, str(SLOT_S)], env=path).stdout.strip()
    node.write(FLEET, f"[fleet]\nreturn_window_s = {window_s}\n")
    scene.fresh_agent(node)
    with scene.cold_reader(node, ready.ref("reader-nydus"), reads=5) as reader:
        ready.mirror.unit.kill("KILL")
        wait_for(node, "down")
        ready.mirror.start_again()
        wait_for(node, "probation")
        began = scene.daemon_status(node)["health_since"]
        took_s = returns(ready, act, reader) - began
        print(f"{act.__name__} on probation: in use again {took_s:.1f} s after it began")
        assert took_s > SLOT_S - 1
