"""What nydusd 2.4.3 and newer do with answers that dfdaemon gives by its own word, with the program of
$NYDUSD.

The recordings that `make test` plays (tests/golden/nydusd-2.4.4) are held to its lines, and made anew with
NYDUSD_RECORD=1.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node import recorded, scene
from tests.node.test_symptoms import READS, lines

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |SymptomsUnknown: |ReadsRefused: )"
)
HONOUR = '[mirror]\nrefusals = "honour"\n'
DROP_IN = "/etc/nydus-agent/conf.d/60-refusals.toml"
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "403-own": ("status", {"status": 403}),
    "403": ("status", {"status": 403, "error_type": ""}),
    "429-own": ("status", {"status": 429}),
    "404": ("status", {"status": 404, "error_type": ""}),
    "cut": ("cut", {}),
    "zeros": ("zeros", {}),
}
OF_A_READ = re.compile(
    r"\] (?:\x1b\[[0-9;]*m)*(?:backend request: |proxy blocked|proxy rate limited|failed to )"
)
"""How lines about a read that failed begin, in paint or without."""


@pytest.fixture
def reader(stage: scene.Stage) -> Iterator[scene.Reader]:
    """A reader on a cold image, and an agent that remembers no outage; the fault ends with the test."""
    stage.mirror.fault()
    scene.fresh_agent(stage.node, 120)
    with scene.cold_reader(stage.node, stage.ref("reader-nydus")) as made:
        yield made
    stage.mirror.fault()


def test_a_refusal_costs_the_reads_in_flight_and_none_behind_the_fence(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    node, at = stage.node, time.time()
    stage.mirror.fault("status", status=403, match=READS)
    scene.wait_for_route(node, "origin", 10)
    status = scene.daemon_status(node)
    headline = scene.agent_json(node, "status")["headline"]
    reader.wait_for(20)
    since = float(status["route_since"])
    said = next(when for when, text in lines(node, at) if "Request(Proxy(Forbidden(" in text)
    reads = [read for read in reader.reads() if read.end >= at]
    lost = [read for read in reads if read.error]
    last = max((read.end for read in lost), default=at) - at
    print(f"refused: {len(lost)} of {len(reads)} reads lost, the last {last:.3f} s "
          f"after the fault; route origin {since - said:.3f} s after the first line; {headline}")  # fmt: skip
    assert [read.error for read in lost if read.at > since] == []
    assert since - said < 0.9
    assert status["symptoms"]["counts"]["refused"] > 0
    assert "refuses reads by its own rules" in status["health_reason"]
    assert "127.0.0.1:5000/reader-nydus" in status["health_evidence"]
    assert "refuses reads by its own rules" in headline
    assert "127.0.0.1:5000/reader-nydus" in headline


def test_a_refusal_that_is_honoured_fails_reads_and_is_told_with_the_image(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    node = stage.node
    node.write(DROP_IN, HONOUR)
    try:
        node.run(["systemctl", "reload", "nydus-agent"])
        scene.wait_for_route(node, "mirror", 30)
        node.wait_until(
            lambda: scene.daemon_status(node)["symptoms"]["watching"], 30, "nydusd's lines are followed"
        )
        stage.mirror.fault("status", status=403, match=READS)
        reader.wait_for(40)
        node.wait_until(lambda: held(stage)["status"] == "True", 10, "the refusal is told")
        assert scene.route(node) == "mirror"
        assert "127.0.0.1:5000/reader-nydus" in held(stage)["message"]
        assert "refuses reads" in scene.agent_json(node, "status")["headline"]
        assert reader.errors() != []
    finally:
        node.run(["rm", DROP_IN])
        node.run(["systemctl", "reload", "nydus-agent"])


def held(stage: scene.Stage) -> dict[str, str]:
    """The condition that tells of it."""
    found: list[dict[str, str]] = scene.daemon_status(stage.node)["conditions"]
    return next(item for item in found if item["type"] == "ReadsRefused")


@pytest.mark.parametrize("name", FAULTS)
def test_the_recorded_lines_are_those_of_the_program(
    stage: scene.Stage, reader: scene.Reader, name: str
) -> None:
    kind, settings = FAULTS[name]
    at = time.time()
    stage.mirror.fault(kind, match=READS, **settings)
    scene.wait_for_route(stage.node, "origin", 20)
    reader.wait_for(10)
    written = of_reads(lines(stage.node, at))
    if os.environ.get("NYDUSD_RECORD"):
        recorded.write(name, written)
    seen = {recorded.masked(text) for _, text in written}
    kept = {recorded.masked(line.text) for line in recorded.lines(name)}
    # Whether a request is slow is the machine's.
    kept = {text for text in kept if not text.endswith(": slow request")}
    assert kept <= seen, (
        "the program writes other lines: look at agent/health/symptoms.py, then NYDUSD_RECORD=1"
    )


def of_reads(taken: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those that tell of a read that failed, without what others write beside them."""
    return [(at, text) for at, text in taken if OF_A_READ.search(text)]
