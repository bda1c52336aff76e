"""A real dfdaemon dies, hangs, refuses, loses its scheduler, its disk, its port: a container that reads all
the time sees no error, and the first line of `nydus-agent status` says what has happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.node import parts, peers, scene
from tests.node.boot import Node
from tests.node.dragonfly import DragonflyStage, Load, staged
from tests.time_bounds import repeated, within

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |ReadsGoAround: )")

IMAGE = "reader-nydus"


@pytest.fixture(scope="module")
def stage() -> Iterator[DragonflyStage]:
    with staged(IMAGE, beside=True) as made:
        scene.pull(made.node, made.ref(IMAGE))
        # The proof that the daemon has asked for is made before dfdaemon dies: what failed of it is told
        # first.
        made.node.run(["systemctl", "start", "nydus-agent-inspect.service"], check=False)
        yield made


@contextmanager
def fresh_reader(stage: DragonflyStage) -> Iterator[scene.Reader]:
    """A reader on a cold image, an agent that remembers no outage, the route at dfdaemon."""
    scene.fresh_agent(stage.node, 60)
    with scene.cold_reader(stage.node, stage.ref(IMAGE)) as made:
        yield made
        made.wait_for(5)
        assert made.errors() == []


@pytest.fixture
def reader(stage: DragonflyStage) -> Iterator[scene.Reader]:
    with fresh_reader(stage) as made:
        yield made


def outage(test: Callable[[DragonflyStage, scene.Reader], None]) -> Callable[[DragonflyStage], None]:
    """A test that holds times beside others: where it missed one it is run again, with another reader."""

    def once(stage: DragonflyStage) -> None:
        with fresh_reader(stage) as made:
            test(stage, made)

    def run(stage: DragonflyStage) -> None:
        repeated(lambda: once(stage))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def headline_of(node: Node) -> str:
    """The first line of `nydus-agent status`."""
    return scene.agent(node, "status", check=False).stdout.splitlines()[0]


def told(node: Node) -> str:
    """The same; the first lines are printed."""
    lines = scene.agent(node, "status", check=False).stdout.splitlines()
    print("\n".join(line for line in lines[:7] if line))
    return lines[0]


def moved(
    stage: DragonflyStage,
    reader: scene.Reader,
    at: float,
    what: str,
    *,
    route_s: float,
    read_ms: float = 1600,
) -> str:
    """The route is origin, reads went on, both in time; what status says of it."""
    scene.wait_for_route(stage.node, "origin", 15)
    took = float(scene.daemon_status(stage.node)["route_since"]) - at
    reader.wait_for(20)
    slowest = reader.slowest_ms(at)
    print(f"dfdaemon {what}: route origin after {took * 1000:.0f} ms, slowest read {slowest:.0f} ms")
    assert reader.errors() == []
    headline = told(stage.node)
    within(took, route_s, f"dfdaemon {what}: seconds to the origin")
    within(slowest, read_ms, f"dfdaemon {what}: slowest read in ms")
    return headline


@outage
def test_a_killed_dfdaemon_costs_no_read_and_status_says_that_nobody_listens(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    at = time.time()
    stage.dfdaemon.unit.kill("KILL")
    try:
        assert "reads go to the origin" in moved(stage, reader, at, "killed", route_s=1.0)
    finally:
        stage.dfdaemon.start_again()
    scene.wait_for_route(stage.node, "mirror", 60)  # the way back, with dfdaemon's own cold start
    reader.wait_for(10)


@outage
def test_a_frozen_dfdaemon_costs_no_read_and_status_says_that_it_is_silent(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    at = time.time()
    stage.dfdaemon.unit.freeze()
    try:
        headline = moved(stage, reader, at, "frozen", route_s=1.0)
    finally:
        stage.dfdaemon.unit.thaw()
    assert "silent" in headline


def test_without_its_scheduler_dfdaemon_serves_on_and_nothing_moves(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    history = len(scene.daemon_status(stage.node)["history"])
    stage.dfdaemon.scheduler.kill("KILL")
    try:
        before, at = requests(stage), time.time()
        reader.wait_for(60)
        assert requests(stage) > before, "reads still go through dfdaemon"
        assert scene.route(stage.node) == "mirror"
        assert len(scene.daemon_status(stage.node)["history"]) == history
        assert "mirror" in told(stage.node)
        print(f"scheduler gone: slowest read {reader.slowest_ms(at):.0f} ms")
    finally:
        stage.dfdaemon.scheduler = peers.start_scheduler(stage.node)


def requests(stage: DragonflyStage) -> float:
    """Blob requests that dfdaemon has served."""
    return stage.dfdaemon.metrics().get("dragonfly_client_proxy_request_via_dfdaemon_total", 0)


def limited(stage: DragonflyStage) -> float:
    """Requests that dfdaemon has answered with 429."""
    series = stage.dfdaemon.metrics()
    return sum(value for name, value in series.items() if "proxy_request_rate_limited" in name)


@outage
def test_a_rate_limit_that_is_hit_costs_no_read_and_status_names_the_429(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    stage.dfdaemon.start_again(request_rate_limit=8)
    try:
        scene.fresh_agent(stage.node, 60)
        at = time.time()
        load = Load(stage, IMAGE, clients=4, seconds=5, piece=1000)
        headline = moved(stage, reader, at, "answers 429", route_s=3.0, read_ms=3000)
        result = load.result()
        print(f"the load: {result['statuses']}; 429s by dfdaemon's count: {limited(stage):.0f}")
        assert limited(stage) > 0
        # Who says it first is chance: nydusd's own reads, which do not tell the number, or a canary.
        assert "429" in headline or "the mirror refuses reads" in headline
    finally:
        stage.dfdaemon.start_again()


def test_a_full_disk_costs_no_read_and_status_says_that_reads_go_around_the_mirror(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    storage = parts.DFDAEMON_STORAGE
    stage.dfdaemon.unit.stop()
    stage.node.run(f"mkdir -p {storage} && mount -t tmpfs -o size=16m tmpfs {storage}")
    try:
        stage.dfdaemon.start_again()
        stage.node.run(f"dd if=/dev/zero of={storage}/ballast bs=64k 2>/dev/null || true")
        scene.fresh_agent(stage.node, 60)
        at = time.time()
        reader.wait_for(30)
        stage.node.wait_until(
            lambda: "go around" in headline_of(stage.node), 10, "status says where reads go"
        )
        assert told(stage.node).startswith("reads go around the mirror")
        print(f"disk full: slowest read {reader.slowest_ms(at):.0f} ms, route {scene.route(stage.node)}")
        assert reader.slowest_ms(at) < 1000
    finally:
        stage.dfdaemon.unit.stop()
        stage.node.run(["umount", "--lazy", storage])
        stage.dfdaemon.start_again()


REJECT = """
table inet test {
  chain input {
    type filter hook input priority 0;
    tcp dport 4001 reject with tcp reset
  }
}
"""


@outage
def test_a_proxy_port_that_is_dead_while_healthy_is_answered_costs_no_read_and_status_says_refused(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    at = time.time()
    stage.node.run(["nft", "--file", "-"], input=REJECT)
    try:
        headline = moved(stage, reader, at, "port dead", route_s=2.0)
        status = scene.daemon_status(stage.node)
        assert status["mirror"]["ping_ok"] is True
    finally:
        stage.node.run(["nft", "delete", "table", "inet", "test"])
    assert "refused" in headline or "reset" in headline


SQUATTER = """
import socketserver
class Nonsense(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(65536)
        head = b"HTTP/1.1 206 Partial Content\\r\\ncontent-length: 1000000\\r\\n\\r\\n"
        self.request.sendall(head + b"x" * 1000000)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 4001), Nonsense).serve_forever()
"""


@pytest.mark.allow_warnings(r"^nydus-agent.service: ForeignListener: ")
@outage
def test_another_user_on_the_mirrors_port_is_fenced_and_named(
    stage: DragonflyStage, reader: scene.Reader
) -> None:
    at = time.time()
    stage.dfdaemon.unit.stop()
    squatter = parts.start_unit(stage.node, "squatter", ["python3", "-c", SQUATTER], user="nobody", port=4001)
    try:
        stage.node.wait_until(
            lambda: scene.daemon_status(stage.node)["mirror"]["owner"] == "foreign", 5, "the owner is seen"
        )
        headline = moved(stage, reader, at, "gone, another user on its port", route_s=2.0)
        status = scene.daemon_status(stage.node)
        held = {entry["type"] for entry in status["conditions"] if entry["status"] == "True"}
        assert status["health_state"] == "down"
        assert "ForeignListener" in held
        assert (
            "a foreign process listens on the mirror's port (127.0.0.1:4001 is held by uid 65534)" in headline
        )
    finally:
        squatter.stop()
        stage.dfdaemon.start_again()
