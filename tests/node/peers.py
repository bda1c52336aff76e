"""A second peer, on a host of its own, and Dragonfly's own scheduler, which leads each peer to what the other
has.

The host is a network namespace of the node's, joined to it by a pair of interfaces: its address and its
loopback are its own, the disk is the node's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.node import cache, dfdaemon, parts, stock
from tests.node.boot import Node, NodeError

SCHEDULER_ON_NODE = "/opt/test-dragonfly-scheduler"
_NODE, _PEER = "10.78.0.1", "10.78.0.2"
_SCHEDULER_PORT, _MANAGER_PORT = 8002, 65003
_NAMESPACE = "peer"
_ENTER = ("nsenter", f"--net=/run/netns/{_NAMESPACE}", "--")
_NETWORK = f"""\
ip netns add {_NAMESPACE}
ip link add peer0 type veth peer name node0 netns {_NAMESPACE}
ip address add {_NODE}/24 dev peer0
ip link set peer0 up
ip -n {_NAMESPACE} address add {_PEER}/24 dev node0
ip -n {_NAMESPACE} link set node0 up
ip -n {_NAMESPACE} link set lo up
"""


@dataclass
class Peers:
    """The node's dfdaemon and one on another host, of one scheduler."""

    node: Node
    manager: parts.Unit
    ours: parts.Dfdaemon
    other: parts.Unit

    def share(self, url: str) -> int:
        """Have both peers hold a blob, the other one from ours; how many bytes it is. Raises NodeError."""
        command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "120", "--output", "/dev/null"]
        command += ["--write-out", "%{size_download}", "--proxy", "http://127.0.0.1:4001", url]
        self.node.run(command, timeout=150)
        return int(self.node.run([*_ENTER, *command], timeout=150).stdout)

    def other_metrics(self) -> dict[str, float]:
        """The other peer's counters by series."""
        return parts.scrape(self.node, enter=_ENTER)


def shares() -> dict[str, Path]:
    """What a node must see of the machine for `start`."""
    return {**parts.dragonfly_shares(), SCHEDULER_ON_NODE: cache.make("dragonfly-scheduler")}


def start(node: Node, registry_port: int = 5000) -> Peers:
    """Both peers with their scheduler; the node's own is on 4001, as `parts.start_dfdaemon` has it. The other
    host has the registry, which is on `registry_port` of all the node's addresses, at 127.0.0.1:5000 too.
    """
    node.run(_NETWORK)
    _name_registry(node, registry_port)
    manager = parts.start_program(
        node, "manager", "manager", "--listen", f"127.0.0.1:{_MANAGER_PORT}", port=_MANAGER_PORT
    )
    scheduler = start_scheduler(node)
    settings = dfdaemon.Settings((parts.BLOB_RULE,))
    address = f"{_NODE}:{_SCHEDULER_PORT}"
    ours = parts.run_dfdaemon(node, scheduler, dfdaemon.Host(address=_NODE, scheduler=address), settings)
    command = dfdaemon.written(node, dfdaemon.Host("peer", _PEER, address), settings)
    other = parts.start_unit(node, "dfdaemon-peer", [*_ENTER, *command])
    peers = Peers(node, manager, ours, other)
    node.wait_until(lambda: _listens(peers), 30, "the other peer's proxy listens")
    return peers


def start_scheduler(node: Node) -> parts.Unit:
    """Dragonfly's own."""
    config = {
        "server": {"host": "scheduler", "advertiseIP": _NODE, "listenIP": "0.0.0.0", "port": _SCHEDULER_PORT,
                   "cacheDir": "/var/cache/test-scheduler", "logDir": "/var/log/test-scheduler"},
        "manager": {"addr": f"127.0.0.1:{_MANAGER_PORT}", "schedulerClusterID": 1},
        "job": {"enable": False},
    }  # fmt: skip
    node.write("/etc/test-scheduler.yaml", json.dumps(config))  # JSON is YAML
    program = f"{SCHEDULER_ON_NODE}/bin/dragonfly-scheduler"
    command = [program, "--config", "/etc/test-scheduler.yaml", "--console"]
    return parts.start_unit(node, "scheduler", command, port=_SCHEDULER_PORT)


def _name_registry(node: Node, registry_port: int) -> None:
    """dfdaemon asks the registry about a blob also where all of it comes from a peer."""
    directory = "/run/test-peer-registry"
    node.run(["mkdir", "-p", directory])
    command = ["python3", "-m", "tests.node.inside.front", "--raw", "--listen", "127.0.0.1:5000"]
    command += ["--target", f"{_NODE}:{registry_port}", "--control", f"{directory}/control"]
    parts.start_unit(node, "peer-registry", [*_ENTER, *command], env={"PYTHONPATH": stock.PYTHONPATH_ON_NODE})


def _listens(peers: Peers) -> bool:
    if not peers.other.is_active():
        raise NodeError(f"{peers.other.name} is not running: {peers.node.journal(peers.other.name)[-3000:]}")
    return bool(peers.node.run([*_ENTER, "ss", "-Hltn", "sport", "=", ":4001"]).stdout.strip())
