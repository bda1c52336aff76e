"""When the mirror dies, hangs or lies under a container that reads all the time, the container sees no
error.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.node import parts, scene
from tests.time_bounds import repeated, within

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")


Act = Callable[[parts.Mirror], None]


def refuse(status: int) -> Callable[[parts.Mirror], None]:
    return lambda mirror: mirror.fault("status", status=status)


@pytest.mark.parametrize(
    ("what", "begin", "end", "route_s", "read_ms"),
    [
        ("killed", lambda mirror: mirror.unit.kill("KILL"), parts.Mirror.start_again, 0.5, 1000),
        ("frozen", lambda mirror: mirror.unit.freeze(), lambda mirror: mirror.unit.thaw(), 1.0, 1000),
        ("answers 500", refuse(500), parts.Mirror.fault, 2.0, 3000),
        ("answers 429", refuse(429), parts.Mirror.fault, 2.0, 3000),
    ],
    ids=["killed", "frozen", "500", "429"],
)
def test_a_mirror_that_fails_costs_no_read(
    stage: scene.Stage, what: str, begin: Act, end: Act, route_s: float, read_ms: float
) -> None:
    """The route is origin, the reader goes on without an error, and both take no longer than README says.
    Only a time that was missed is tried again, with another reader.
    """

    def outage() -> None:
        scene.fresh_agent(stage.node, 120)  # three outages in a row would keep it at the origin for minutes
        with scene.cold_reader(stage.node, stage.ref("reader-nydus")) as reader:
            at = time.time()
            begin(stage.mirror)
            try:
                scene.wait_for_route(stage.node, "origin", 10)
                took = float(scene.daemon_status(stage.node)["route_since"]) - at
                reader.wait_for(30)
                slowest = reader.slowest_ms(at)
            finally:
                end(stage.mirror)
            print(f"mirror {what}: route origin after {took * 1000:.0f} ms, slowest read {slowest:.0f} ms")
            scene.wait_for_route(stage.node, "mirror", 120)
            reader.wait_for(10)
            assert reader.errors() == []
        within(took, route_s, f"mirror {what}: seconds to the origin")
        within(slowest, read_ms, f"mirror {what}: slowest read in ms")

    repeated(outage)


@pytest.mark.allow_warnings(
    r"^init.scope: nydus-agent.service: (Main process exited|Failed with|Watchdog timeout|Killing)"
)
@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_reads_go_on_when_the_agent_itself_is_killed_or_frozen(stage: scene.Stage, signal: str) -> None:
    scene.fresh_agent(stage.node, 120)
    with scene.cold_reader(stage.node, stage.ref("reader-nydus")) as reader:
        pid = stage.node.main_pid("nydus-agent")
        stage.node.run(["systemctl", "kill", f"--signal={signal}", "nydus-agent.service"])
        reader.wait_for(10)
        stage.node.wait_until(
            lambda: (
                stage.node.main_pid("nydus-agent") not in (0, pid)
                and time.time() - float(scene.daemon_status(stage.node)["at"]) < 2
            ),
            15,
            "the agent is back",
        )
        reader.wait_for(10)
        assert reader.errors() == []
