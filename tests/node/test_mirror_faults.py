"""When the mirror dies, hangs or lies under a container that reads all the time, the container sees no
error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.node import scene
from tests.time_bounds import repeated, within

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")


@contextmanager
def fresh_reader(stage: scene.Stage) -> Iterator[scene.Reader]:
    """A reader on a cold image: snapshot, nydusd and cache are made anew. The agent forgets the outages of
    the tests before, or three in a row would keep it at the origin for minutes (flap penalty).
    """
    scene.fresh_agent(stage.node, 120)
    with scene.cold_reader(stage.node, stage.ref("reader-nydus")) as made:
        yield made


@pytest.fixture
def reader(stage: scene.Stage) -> Iterator[scene.Reader]:
    with fresh_reader(stage) as made:
        yield made


def check_outage(
    stage: scene.Stage,
    what: str,
    begin: Callable[[], None],
    end: Callable[[], None],
    *,
    route_s: float,
    read_ms: float,
) -> None:
    """An outage: the route is origin, the reader goes on without an error, and both take no longer than
    README says. Only a time that was missed is tried again, with another reader.
    """

    def outage() -> None:
        with fresh_reader(stage) as reader:
            at = time.time()
            begin()
            try:
                scene.wait_for_route(stage.node, "origin", 10)
                took = float(scene.daemon_status(stage.node)["route_since"]) - at
                reader.wait_for(30)
                slowest = reader.slowest_ms(at)
            finally:
                end()
            print(f"mirror {what}: route origin after {took * 1000:.0f} ms, slowest read {slowest:.0f} ms")
            scene.wait_for_route(stage.node, "mirror", 120)
            reader.wait_for(10)
            assert reader.errors() == []
        within(took, route_s, f"mirror {what}: seconds to the origin")
        within(slowest, read_ms, f"mirror {what}: slowest read in ms")

    repeated(outage)


def test_a_killed_mirror_costs_no_read(stage: scene.Stage) -> None:
    unit = stage.mirror.unit
    check_outage(
        stage, "killed", lambda: unit.kill("KILL"), stage.mirror.start_again, route_s=0.5, read_ms=1000
    )


def test_a_frozen_mirror_costs_no_read(stage: scene.Stage) -> None:
    unit = stage.mirror.unit
    check_outage(stage, "frozen", unit.freeze, unit.thaw, route_s=1.0, read_ms=1000)


@pytest.mark.parametrize("status", [500, 429])
def test_a_mirror_that_answers_with_an_error_costs_no_read(stage: scene.Stage, status: int) -> None:
    mirror = stage.mirror

    def refuse() -> None:
        mirror.fault("status", status=status)

    check_outage(stage, f"answers {status}", refuse, mirror.fault, route_s=2.0, read_ms=3000)


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
