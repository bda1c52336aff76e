"""nydusd 2.4.4's real lines, played into the journal of a node: the route moves in time, and what was met is
named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.node import recorded, scene
from tests.node.boot import Node
from tests.node.test_symptoms import PROMISED_S, lines, watched
from tests.time_bounds import repeated, within

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |SymptomsUnknown: |ReadsRefused: )"
)
DROP_IN = "/etc/nydus-agent/conf.d/60-refusals.toml"
REASONS = {
    "403-own": "refuses reads by its own rules",
    "403": "refuses reads",
    "429-own": "refuses reads",
    "404": "refuses reads",
    "cut": "cuts reads short",
    "zeros": "do not decode",
}


@pytest.fixture
def node(stage: scene.Stage) -> Iterator[Node]:
    """The node, whose agent goes around refusals again afterwards."""
    yield stage.node
    stage.node.run(["rm", "-f", DROP_IN])


@pytest.mark.parametrize("name", REASONS)
def test_lines_of_nydusd_2_4_move_the_route_and_name_what_was_met(node: Node, name: str) -> None:
    def outage() -> None:
        took = played(node, name)
        within(took, PROMISED_S, f"nydusd 2.4.4 wrote {name}: seconds from its line to the origin")

    repeated(outage)


def played(node: Node, name: str) -> float:
    """The seconds from the first line to the origin."""
    scene.fresh_agent(node)
    watched(node)
    since = time.time()
    recorded.play(node, name)
    scene.wait_for_route(node, "origin", 10)
    status = scene.daemon_status(node)
    first = recorded.masked(recorded.lines(name)[0].text)
    said = next(at for at, text in lines(node, since) if recorded.masked(text) == first)
    took = float(status["route_since"]) - said
    print(f"{name}: route origin {took * 1000:.0f} ms after the first line")
    assert REASONS[name] in status["health_reason"]
    if name != "zeros":  # its line names no blob
        assert "127.0.0.1:5000/reader-nydus" in status["health_evidence"]
    return took


def test_where_refusals_are_honoured_the_route_stays_and_the_refusal_is_told(node: Node) -> None:
    node.write(DROP_IN, '[mirror]\nrefusals = "honour"\n')
    scene.fresh_agent(node)
    watched(node)
    recorded.play(node, "403-own")
    node.wait_until(
        lambda: scene.daemon_status(node)["symptoms"]["counts"]["refused"] > 0, 10, "the lines were read"
    )
    said = node.wait_until(
        lambda: headline if "refuses reads" in (headline := scene.agent_json(node,
            "status")["headline"]) else "",
        10, "status says it",
    )  # fmt: skip
    assert "127.0.0.1:5000/reader-nydus" in said
    assert scene.route(node) == "mirror"
    assert [entry["route"] for entry in scene.daemon_status(node)["history"]][-1] == "mirror"
