"""What the agent knows of the mirror outlives a reload, a restart, a crash and another registry, and while
reads are at the origin that one is watched: on a node, with a container that reads all the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.node import parts, scene
from tests.node.boot import Node

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: mirror \w+ -> ",
    r"^nydus-agent.service: BothBad: ",
    r"^init.scope: nydus-agent.service: (Main process exited|Failed with)",
)

AGENT = "nydus-agent.service"
SITE = scene.HTTP_SITE + "[mirror.health]\ndwell_ms = 3600000\n"
"""A mirror that was down is held back for an hour, however well it is."""
OTHER_FILE = "/etc/nydus-agent/conf.d/60-other.toml"
REGISTRIES = "".join(
    f'[[registries.hosts]]\nhost = "127.0.0.1:{port}"\nscheme = "http"\n' for port in (5000, 5002)
)


def reload(node: Node) -> None:
    node.run(["systemctl", "reload", AGENT])


def restart(node: Node) -> None:
    node.run(["systemctl", "restart", AGENT])


def crash(node: Node) -> None:
    node.run(["systemctl", "kill", "--signal=KILL", AGENT])


def see_another_registry(node: Node) -> None:
    node.write(OTHER_FILE, REGISTRIES)
    reload(node)


@pytest.fixture(scope="module")
def held() -> Iterator[scene.Stage]:
    """The mirror has been down and is well again, and reads are at the origin. What the mirror fetches comes
    from another registry than the one that nydusd asks.
    """
    with scene.staged("reader-nydus", site=SITE) as stage:
        node = stage.node
        parts.run_registry(node, "registry-5002", 5002, {})
        stage.mirror.unit.stop()
        stage.mirror.peers = "127.0.0.1:5000=127.0.0.1:5002"
        stage.mirror.start_again()
        scene.fresh_agent(node)
        scene.pull(node, stage.ref("reader-nydus"))
        stage.mirror.unit.kill()
        scene.wait_for_route(node, "origin", 10)
        stage.mirror.start_again()
        node.wait_until(lambda: is_well_but_down(node), 30, "the mirror is well, and held back")
        yield stage


def is_well_but_down(node: Node) -> bool:
    status = scene.daemon_status(node)
    return bool(
        status["health_state"] == "down" and status["mirror"]["ping_ok"] and status["mirror"]["canary_ok"]
    )


@pytest.mark.parametrize("happens", [reload, restart, crash, see_another_registry])
def test_a_mirror_that_is_held_back_stays_so_whatever_becomes_of_the_agent(
    held: scene.Stage, happens: Callable[[Node], None]
) -> None:
    node, before = held.node, scene.daemon_status(held.node)
    at = time.time()
    with scene.cold_reader(node, held.ref("reader-nydus"), reads=5) as reader:
        happens(node)
        node.wait_until(lambda: scene.daemon_status(node)["at"] > at + 8, 20, "the agent publishes 8 s later")
        after = scene.daemon_status(node)
        assert {entry["route"] for entry in after["history"] if entry["at"] > at} <= {"origin"}
        assert (after["route"], after["health_state"]) == ("origin", "down")
        assert is_well_but_down(node)
        assert before["penalty"]["value"] * 0.9 < after["penalty"]["value"] <= before["penalty"]["value"]
        assert reader.errors() == []


def test_an_origin_that_dies_while_a_well_mirror_is_held_back_costs_a_container_no_read(
    held: scene.Stage,
) -> None:
    node = held.node
    node.run(["rm", "-f", OTHER_FILE])  # one good origin would be enough
    reload(node)
    with scene.cold_reader(node, held.ref("reader-nydus"), reads=5) as reader:
        at = time.time()
        held.registry.unit.stop()
        took = scene.wait_for_route(node, "mirror", 10)
        reader.wait_for(20)
        print(
            f"origin dead: reads go to the mirror after {took:.1f} s; slowest read "
            f"{reader.slowest_ms(at):.0f} ms"
        )
        assert reader.errors() == []
        # The origin is back, and the mirror is still held back.
        held.registry = parts.start_registry(node)
        back = scene.wait_for_route(node, "origin", 10)
        reader.wait_for(20)
        print(f"origin back: reads go there after {back:.1f} s")
        assert reader.errors() == []
