"""When the mirror dies, hangs or lies under a container that reads all the time, the container sees no error."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.node import scene

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")


@pytest.fixture
def reader(stage: scene.Stage) -> Iterator[scene.Reader]:
    """A reader on a cold image: snapshot, nydusd and cache are made anew. The agent forgets the outages of the tests
    before, or three in a row would keep it at the origin for minutes (flap penalty).
    """
    stage.node.run(["systemctl", "restart", "nydus-agent"])
    scene.wait_for_route(stage.node, "mirror", 120)
    with scene.cold_reader(stage.node, stage.ref("reader-nydus")) as made:
        yield made


def lived_through(stage: scene.Stage, reader: scene.Reader, at: float, what: str, limit_ms: float) -> None:
    """The route is origin, and the reader went on without an error."""
    scene.wait_for_route(stage.node, "origin", 10)
    took = float(scene.daemon_status(stage.node)["route_since"]) - at
    reader.wait_for(30)
    slowest = reader.slowest_ms(at)
    print(f"mirror {what}: route origin after {took * 1000:.0f} ms, slowest read {slowest:.0f} ms")
    assert reader.errors() == []
    assert slowest < limit_ms


def test_a_killed_mirror_costs_no_read(stage: scene.Stage, reader: scene.Reader) -> None:
    at = time.time()
    stage.mirror.unit.kill("KILL")
    lived_through(stage, reader, at, "killed", 2000)
    stage.mirror.start_again()
    scene.wait_for_route(stage.node, "mirror", 120)
    reader.wait_for(10)
    assert reader.errors() == []


def test_a_frozen_mirror_costs_no_read(stage: scene.Stage, reader: scene.Reader) -> None:
    at = time.time()
    stage.mirror.unit.freeze()
    lived_through(stage, reader, at, "frozen", 2500)
    stage.mirror.unit.thaw()
    scene.wait_for_route(stage.node, "mirror", 120)
    reader.wait_for(10)
    assert reader.errors() == []


@pytest.mark.parametrize("status", [500, 429])
def test_a_mirror_that_answers_with_an_error_costs_no_read(
    stage: scene.Stage, reader: scene.Reader, status: int
) -> None:
    at = time.time()
    stage.mirror.fault("status", status=status)
    lived_through(stage, reader, at, f"answers {status}", 4000)
    stage.mirror.fault()
    scene.wait_for_route(stage.node, "mirror", 120)
    reader.wait_for(10)
    assert reader.errors() == []


def test_nft_flush_ruleset_does_not_open_the_fence_for_long(stage: scene.Stage, reader: scene.Reader) -> None:
    stage.mirror.unit.freeze()
    try:
        scene.wait_for_route(stage.node, "origin", 10)
        stage.node.run(["nft", "flush", "ruleset"])
        stage.node.wait_until(
            lambda: "nydus_agent" in stage.node.run(["nft", "list", "ruleset"]).stdout, 3, "the fence is back"
        )
        reader.wait_for(10)
    finally:
        stage.mirror.unit.thaw()
    assert reader.errors() == []
    scene.wait_for_route(stage.node, "mirror", 120)


@pytest.mark.allow_warnings(
    r"^init.scope: nydus-agent.service: (Main process exited|Failed with|Watchdog timeout|Killing)"
)
@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_reads_go_on_when_the_agent_itself_is_killed_or_frozen(
    stage: scene.Stage, reader: scene.Reader, signal: str
) -> None:
    stage.node.run(["systemctl", "kill", f"--signal={signal}", "nydus-agent.service"])
    reader.wait_for(10)
    stage.node.wait_until(
        lambda: time.time() - float(scene.daemon_status(stage.node)["at"]) < 2
        and stage.node.run(["systemctl", "is-active", "nydus-agent"], check=False).stdout.strip() == "active",
        15,
        "the agent is back",
    )
    reader.wait_for(10)
    assert reader.errors() == []


def test_reads_go_on_while_the_agent_is_stopped_and_the_fence_is_lifted(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    stage.mirror.unit.kill("KILL")
    scene.wait_for_route(stage.node, "origin", 10)
    stage.node.run(["systemctl", "stop", "nydus-agent"])
    try:
        assert "nydus_agent" not in stage.node.run(["nft", "list", "ruleset"]).stdout
        reader.wait_for(15)
    finally:
        stage.mirror.start_again()
        stage.node.run(["systemctl", "start", "nydus-agent"])
    assert reader.errors() == []
