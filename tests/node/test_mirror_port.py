"""Another user of the node holds sockets with the mirror's port: no read leaves a mirror that is well, and
none reaches a socket of that user that stands in the mirror's place.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent import paths
from tests.node import parts, scene, stock
from tests.node.boot import Node
from tests.node.others import Knocker, held

AGENT = "nydus-agent.service"
BESIDE_S = float(os.environ.get("NYDUS_AGENT_TEST_BESIDE_S", "3"))
"""For how long the other user's sockets are there."""
MANY = int(os.environ.get("NYDUS_AGENT_TEST_LISTENERS", "20000"))
MOST_CPU = 0.05
"""Of a core, by an agent that meets that many; alone it takes a tenth of it."""


def cpu_s(node: Node) -> float:
    """Seconds of a core that the agent's processes have taken."""
    ticks = 0
    for pid in node.processes(AGENT):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def changes(status: dict[str, Any]) -> int:
    """How often health state or route have changed, by all agents."""
    return len(status["history"])


def nothing_moves(stage: scene.Stage, reader: scene.Reader | None = None) -> None:
    """For BESIDE_S the route stays at the mirror, whose owner is right."""
    before = scene.daemon_status(stage.node)
    assert (before["route"], before["mirror"]["owner"]) == ("mirror", "ok"), before
    pid, served = stage.node.main_pid(AGENT), stage.mirror.stats()["blob_requests"]
    end = time.monotonic() + BESIDE_S
    while time.monotonic() < end:
        if reader is not None:
            reader.wait_for(5)
        else:
            time.sleep(0.2)
        status = scene.daemon_status(stage.node)
        assert changes(status) == changes(before), status["history"][-3:]
        assert (status["route"], status["mirror"]["owner"]) == ("mirror", "ok"), status["mirror"]
    assert stage.node.main_pid(AGENT) == pid, "the agent was not restarted"
    assert reader is None or stage.mirror.stats()["blob_requests"] > served


def check_of_the_mirror(node: Node) -> tuple[str, str]:
    """State and detail of check 9."""
    found = next(one for one in scene.agent_json(node, "doctor")["checks"] if one["number"] == 9)
    return found["state"], found["detail"]


def test_another_users_ipv6_socket_beside_a_well_mirror_moves_no_read(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    with held(stage.node, "ipv6"):
        nothing_moves(stage, reader)
        state, detail = check_of_the_mirror(stage.node)
        assert (state, "127.0.0.1:4001 is held by uid 0" in detail) == ("ok", True), detail


@pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")
def test_beside_such_a_socket_the_mirrors_own_process_is_the_one_that_is_watched(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    with held(stage.node, "ipv6"):
        reader.wait_for(30)  # with a look or two at the port's owner meanwhile
        at = time.time()
        stage.mirror.unit.freeze()
        try:
            scene.wait_for_route(stage.node, "origin", 10)
            causes = [
                entry["cause"] for entry in scene.daemon_status(stage.node)["history"] if entry["at"] >= at
            ]
            assert causes[0] == "ended", "that it was stopped is known before its silence is"
        finally:
            stage.mirror.unit.thaw()
        scene.wait_for_route(stage.node, "mirror", 30)


def test_thousands_of_another_users_sockets_with_the_mirrors_port_cost_the_agent_nothing(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    with held(stage.node, "many", "--count", str(MANY)):
        before, at = cpu_s(stage.node), time.monotonic()
        nothing_moves(stage, reader)
        share = (cpu_s(stage.node) - before) / (time.monotonic() - at)
        print(f"{MANY} sockets beside the mirror's: the agent took {share * 100:.1f} % of a core")
        assert share < MOST_CPU


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")
def test_without_a_registry_another_users_ipv6_socket_does_not_take_the_only_route(
    stage: scene.Stage,
) -> None:
    scene.fresh_agent(stage.node)
    stage.registry.unit.stop()
    try:
        stage.node.wait_until(
            lambda: scene.daemon_status(stage.node)["mirror"]["owner"] == "ok", 10, "the owner is seen"
        )
        with held(stage.node, "ipv6"):
            nothing_moves(stage)
    finally:
        stage.registry = parts.start_registry(stage.node)


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: |ForeignListener: )")
def test_another_user_in_the_mirrors_place_is_fenced_from_the_first_look_and_by_the_next_agent_too(
    stage: scene.Stage,
) -> None:
    node = stage.node
    node.run(["systemctl", "stop", AGENT])
    stage.mirror.unit.stop()
    stage.registry.unit.stop()
    try:
        with held(node, "mirror"):
            node.wait_until(
                lambda: node.run(["ss", "-Hltn", "sport", "=", ":4001"]).stdout, 10, "somebody listens"
            )
            node.run(["systemctl", "start", AGENT])
            scene.wait_for_route(node, "origin", 5)
            with Knocker(node) as knocker:
                knocker.wait_for(100)
                node.run(["systemctl", "restart", AGENT])
                at = time.monotonic()
                while time.monotonic() < at + BESIDE_S:
                    knocker.wait_for(50)
                assert knocker.passed() == [], "no connection reached the other user's socket"
            status = scene.daemon_status(node)
            assert (status["route"], status["mirror"]["owner"]) == ("origin", "foreign")
            assert {one["type"] for one in status["conditions"] if one["status"] == "True"} >= {
                "ForeignListener"
            }
    finally:
        stage.registry = parts.start_registry(node)
        stage.mirror.start_again()
        node.run(["systemctl", "restart", AGENT])
    scene.wait_for_route(node, "mirror", 30)


SQUATTER = f"""\
[Unit]
Before=nydus-agent.service
[Service]
User=nobody
Environment=PYTHONPATH={stock.PYTHONPATH_ON_NODE}
ExecStart=python3 -m tests.node.inside.sockets mirror
[Install]
WantedBy=multi-user.target
"""


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: |ForeignListener: )")
def test_another_user_who_is_in_the_mirrors_place_at_boot_is_fenced_in_the_agents_first_second() -> None:
    with scene.staged() as stage:
        node = stage.node
        node.write("/etc/systemd/system/squatter.service", SQUATTER)
        node.run(["systemctl", "enable", "squatter.service"])
        node.reboot()  # after which neither a mirror nor a registry is there
        node.wait_until(lambda: node.exists(paths.STATUS), 30, "the agent publishes")
        with Knocker(node) as knocker:
            knocker.wait_for(300)
            assert knocker.passed() == [], "no connection reached the other user's socket"
        status = scene.daemon_status(node)
        assert (status["route"], status["mirror"]["owner"]) == ("origin", "foreign")
        assert {one["ok"] for one in status["origins"]} == {False}
        took_s = status["route_since"] - status["started_at"]
        print(f"fenced {took_s * 1000:.0f} ms after the agent's start")
        assert took_s < 1
