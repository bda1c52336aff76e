"""Somebody sets the node's clock: no route moves, and nothing lasts longer than it should.

Nodes have the machine's clock, and a test that is killed in its middle leaves it wrong: so this is no part of
`make test`, which steps the clock of a whole daemon instead (tests/unit/test_daemon_clock.py).
"""

from __future__ import annotations

import time

import pytest

from tests.node import scene
from tests.node.boot import Node

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")


def set_clock(node: Node, seconds: int) -> None:
    """The machine's clock, forwards or back."""
    code = f"import time; time.clock_settime(time.CLOCK_REALTIME, time.time() + {seconds})"
    node.run(["python3", "-S", "-c", code])


@pytest.mark.parametrize("route", ["mirror", "origin"])
def test_a_clock_that_is_set_moves_no_route(stage: scene.Stage, reader: scene.Reader, route: str) -> None:
    if route == "origin":
        stage.mirror.unit.freeze()
    moved = 0
    try:
        scene.wait_for_route(stage.node, route, 10)
        before = scene.daemon_status(stage.node)["history"]
        for seconds in (5, -5, -5, 5):
            set_clock(stage.node, seconds)
            moved += seconds
            reader.wait_for(10)
        now = scene.daemon_status(stage.node)
    finally:
        set_clock(stage.node, -moved)
        stage.mirror.unit.thaw()
    told = [(entry["from"], entry["to"], entry["route"]) for entry in now["history"]]
    assert told[: len(before)] == [(entry["from"], entry["to"], entry["route"]) for entry in before]
    assert now["route"] == route
    assert {entry[2] for entry in told[len(before) :]} <= {route}


def test_a_clock_that_steps_back_leaves_the_mounts_alive_on_both_routes(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    try:
        set_clock(stage.node, -5)
        reader.wait_for(15)
        stage.mirror.unit.kill("KILL")
        scene.wait_for_route(stage.node, "origin", 15)
        set_clock(stage.node, 5)
        set_clock(stage.node, -5)
        reader.wait_for(15)
    finally:
        set_clock(stage.node, 5)
        stage.mirror.start_again()
    assert reader.errors() == []
    scene.wait_for_route(stage.node, "mirror", 120)


def test_a_pin_does_not_outlast_a_clock_that_is_stepped_back(stage: scene.Stage) -> None:
    node = stage.node
    scene.fresh_agent(node)
    scene.agent(node, "route", "pin", "origin", "--for", "5s")
    began = time.monotonic()
    set_clock(node, -600)
    try:
        scene.wait_for_route(node, "mirror", 30)
        took = time.monotonic() - began
    finally:
        set_clock(node, 600)
    assert 3 < took < 15
