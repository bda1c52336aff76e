"""While reads of nydus images are held at the origin, nobody else loses anything: pods, other ports, other
addresses, and connections to the mirror that are open already.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Self

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.others import Knocker

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

POD, NODE, PORT = "10.77.0.2", "10.77.0.1", 4001
SERVER = """
import socketserver, sys
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline():
            self.wfile.write(sys.argv[3].encode() + b"\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as client:
    client.sendall(b"hello\\n")
    print(client.makefile().readline().strip())
"""
KEPT = """
import http.client, sys
kept = http.client.HTTPConnection("127.0.0.1", 4001, timeout=10)
for line in sys.stdin:
    kept.auto_open = kept.sock is None  # connect once, never again
    kept.request("GET", "http://127.0.0.1:5000/v2/")
    answer = kept.getresponse()
    answer.read()
    print(answer.status, flush=True)
"""


class Monitor:
    """What `nft monitor` tells of new set elements, from the agent's start to its end."""

    def __init__(self, node: Node) -> None:
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by __exit__
        self._process = node.popen(
            ["timeout", "600", "stdbuf", "-oL", "nft", "monitor", "new", "elements"],
            stdout=self._file, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._node = node

    def __enter__(self) -> Self:
        def listens() -> bool:
            self._node.run("nft 'add table inet probe; add set inet probe p { type inet_service; }'; "
                           "nft add element inet probe p '{ 1 }'; nft delete table inet probe")  # fmt: skip
            return "inet probe" in self._text()

        self._node.wait_until(listens, 10, "nft monitor listens")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._file.close()

    def added(self) -> set[tuple[str, ...]]:
        """(table, set, address, port) of each element that was added to a table which is not the test's."""
        lines = [
            line for line in self._text().splitlines() if "add element" in line and "inet probe" not in line
        ]
        found = [re.search(r"add element (\S+ \S+) (\S+) \{ (\S+) \. (\S+) ", line) for line in lines]
        assert None not in found, lines
        return {match.groups() for match in found if match is not None}

    def _text(self) -> str:
        with open(f"/proc/self/fd/{self._file.fileno()}", "rb") as copy:
            return copy.read().decode()


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    """A node with a pod's network, servers on its ports, and the fence held by a pin: the mirror itself is
    well.
    """
    with scene.staged("reader-nydus") as made:
        node = made.node
        node.run(
            "ip netns add pod && ip link add host0 type veth peer name eth0 netns pod && "
            f"ip address add {NODE}/24 dev host0 && ip link set host0 up && ip -n pod address add {POD}/24 "
            f"dev eth0 && ip -n pod link set eth0 up && ip -n pod link set lo up && ip -n pod route add "
            f"default via {NODE}"
        )
        serve(node, "127.0.0.1", 4000, "upload")
        serve(node, "127.0.0.1", 4444, "another port")
        serve(node, NODE, PORT, "another address")
        serve(node, NODE, 5080, "registry")
        serve(node, "127.0.0.1", PORT, "the pod's own", pod=True)
        scene.pull(node, made.ref("reader-nydus"))
        yield made


@pytest.fixture(scope="module")
def monitor(stage: scene.Stage) -> Iterator[Monitor]:
    with Monitor(stage.node) as made:
        yield made


@pytest.fixture
def fenced(stage: scene.Stage, monitor: Monitor) -> Iterator[scene.Stage]:
    scene.agent(stage.node, "route", "pin", "origin", "--for", "10m", "--reason", "test")
    scene.wait_for_route(stage.node, "origin", 10)
    with Knocker(stage.node) as knocker:
        yield stage
        assert knocker.passed() == [], "the fence was up all the time"
    scene.agent(stage.node, "route", "auto")
    scene.wait_for_route(stage.node, "mirror", 60)


def serve(node: Node, host: str, port: int, says: str, *, pod: bool = False) -> None:
    name = f"test-{'pod-' if pod else ''}{host.replace('.', '-')}-{port}"
    inside = ["ip", "netns", "exec", "pod"] if pod else []
    command = ["python3", "-S", "-c", SERVER, host, str(port), says]
    node.run(["systemd-run", "--quiet", f"--unit={name}", *inside, *command])
    node.wait_until(lambda: ask(node, host, port, pod=pod) == says, 10, f"{host}:{port} answers")


def ask(node: Node, host: str, port: int, *, pod: bool = False, user: str | None = None) -> str:
    """What the server there says, or "" where it cannot be reached."""
    inside = ["ip", "netns", "exec", "pod"] if pod else []
    return node.run(
        [*inside, "python3", "-S", "-c", CLIENT, host, str(port)], check=False, user=user
    ).stdout.strip()


def test_a_pod_keeps_its_own_loopback_the_nodes_ports_and_its_way_to_registries(fenced: scene.Stage) -> None:
    node = fenced.node
    assert ask(node, "127.0.0.1", PORT, pod=True) == "the pod's own"
    assert ask(node, NODE, PORT, pod=True) == "another address"
    assert ask(node, NODE, 5080, pod=True) == "registry"


def test_peers_and_monitoring_reach_dfdaemons_other_ports(fenced: scene.Stage) -> None:
    node = fenced.node
    assert ask(node, "127.0.0.1", 4000) == "upload"
    for url in ("http://127.0.0.1:4002/metrics", "http://127.0.0.1:4003/healthy"):
        node.run(["curl", "--silent", "--fail", "--max-time", "5", url])


@pytest.mark.parametrize("user", [None, "nobody"])
def test_programs_on_the_node_reach_other_ports_and_other_addresses(
    fenced: scene.Stage, user: str | None
) -> None:
    assert ask(fenced.node, "127.0.0.1", 4444, user=user) == "another port"
    assert ask(fenced.node, NODE, PORT, user=user) == "another address"


def test_another_programs_open_connection_to_the_mirror_goes_on(stage: scene.Stage, monitor: Monitor) -> None:
    pipe = subprocess.PIPE
    with stage.node.popen(["python3", "-c", KEPT], user="nobody", stdin=pipe, stdout=pipe) as kept:
        assert answered(kept) == "200"
        scene.agent(stage.node, "route", "pin", "origin", "--for", "10m", "--reason", "test")
        scene.wait_for_route(stage.node, "origin", 10)
        with Knocker(stage.node) as knocker:
            knocker.wait_for(300)  # the fence is renewed some times
            assert answered(kept) == "200"
            assert knocker.passed() == []
    scene.agent(stage.node, "route", "auto")
    scene.wait_for_route(stage.node, "mirror", 60)


def answered(kept: subprocess.Popen[bytes]) -> str:
    """The status of one more answer on the kept connection."""
    assert kept.stdin is not None
    assert kept.stdout is not None
    kept.stdin.write(b"\n")
    kept.stdin.flush()
    return kept.stdout.readline().decode().strip()


def test_a_container_reads_on_meanwhile(fenced: scene.Stage) -> None:
    with scene.Reader(fenced.node, fenced.ref("reader-nydus"), pause_ms=20) as reader:
        reader.wait_for(40)
        assert reader.errors() == []


def test_in_all_this_only_the_configured_address_and_port_were_ever_fenced(
    fenced: scene.Stage, monitor: Monitor
) -> None:
    # With its self-test, and the adoption of the fence.
    fenced.node.run(["systemctl", "restart", "nydus-agent"])
    scene.wait_for_route(fenced.node, "origin", 10)
    assert monitor.added() == {("inet nydus_agent", "mirror4", "127.0.0.1", str(PORT))}
