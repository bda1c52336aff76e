"""A mirror that leaves the host's network, as where dfdaemon's DaemonSet loses `hostNetwork` and gets a
`hostPort`: the same address leads to it, rewritten, and what it can reach of the node is another.
"""

from __future__ import annotations

import json

import pytest

from tests.node import parts, scene, stock
from tests.node.boot import Node

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

NODE, POD = "10.78.0.1", "10.78.0.2"
_ENTER = ("nsenter", "--net=/run/netns/pod", "--")
NETWORK = f"""\
ip netns add pod
ip link add host0 type veth peer name eth0 netns pod
ip address add {NODE}/24 dev host0
ip link set host0 up
ip -n pod address add {POD}/24 dev eth0
ip -n pod link set eth0 up
ip -n pod link set lo up
echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
"""
HOST_PORTS = f"""\
table ip host_ports {{
    chain output {{ type nat hook output priority dstnat;
        ip daddr 127.0.0.1 tcp dport 4001-4003 dnat to {POD}; }}
    chain leave {{ type nat hook postrouting priority srcnat;
        ip daddr {POD} ip saddr 127.0.0.1 snat to {NODE}; }}
}}
"""


def move(node: Node, mirror: parts.Mirror) -> None:
    """The mirror goes on in the pod's network. It fetches from the registry by the node's address there."""
    mirror.unit.stop()
    scene.wait_for_route(node, "origin", 10)
    parts.run_registry(node, "registry-5002", 5002, {"addr": f"{NODE}:5002"})
    argv = [*_ENTER, "python3", "-m", "tests.node.inside.mirror", "--address", POD]
    argv += ["--rules", json.dumps(mirror.rules)]
    argv += ["--log", mirror.log_path, "--control", mirror.control, "--peers", f"127.0.0.1:5000={NODE}:5002"]
    node.run(["rm", "-f", mirror.log_path, mirror.control])
    parts.start_unit(node, "mirror", argv, env={"PYTHONPATH": stock.PYTHONPATH_ON_NODE})
    node.run(["nft", "-f", "-"], input=HOST_PORTS)
    answers = ["curl", "--silent", "--fail", "--max-time", "2", "http://127.0.0.1:4003/healthy"]
    node.wait_until(
        lambda: node.run(answers, check=False).returncode == 0, 20, "it answers at its old address"
    )


def test_a_mirror_that_moves_into_a_network_of_its_own_is_used_again_and_costs_a_container_no_read() -> None:
    with scene.staged("reader-nydus") as stage:
        node, ref = stage.node, stage.ref("reader-nydus")
        node.run(NETWORK)
        scene.fresh_agent(node)
        scene.pull(node, ref)
        with scene.Reader(node, ref, pause_ms=60) as reader:
            reader.wait_for(15)
            move(node, stage.mirror)
            print(f"used again after {scene.wait_for_route(node, 'mirror', 60):.1f} s")
            assert scene.daemon_status(node)["mirror"]["owner"] == "none", (
                "nothing of this node listens there"
            )
            reader.wait_for(15)
            assert reader.errors() == []
        with scene.cold_reader(node, ref) as reader:
            assert stage.mirror.stats()["blob_bytes"] > scene.bootstrap_size("reader-nydus"), (
                "reads come through it"
            )
            assert reader.errors() == []
