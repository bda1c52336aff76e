"""How canaries come back through the mirror, and which of them are believed. The whole daemon, on real sockets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.fakes.mirror import SmallMirror, Way
from tests.fakes.turning import on_time, until
from tests.unit.daemon_node import Node, fresh, running


def behind_a_node_port(node: Node) -> None:
    """Its mirror has an address of this node that is none of its loopback, and no socket here."""
    address = "0.0.0.0"  # to connect to it is to connect to this node
    mirror = replace(node.config.mirror, url=f"http://{address}:{node.mirror.proxy_port}")
    node.config = replace(node.config, mirror=mirror)
    node.fakes.tables.address = address
    node.fakes.tables.held.clear()


def test_a_users_socket_beside_a_node_port_hides_no_data_path_that_fails(tmp_path: Path) -> None:
    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(fresh(tmp_path), mirror)
            behind_a_node_port(node)
            async with running(node):
                await until(lambda: node.is_("healthy", "mirror")() and len(mirror.targets) > 3)
                node.fakes.tables.held[mirror.proxy_port] = 1000
                mirror.proxy_way = Way.ERROR
                await until(node.is_("down", "origin"), 10)

    on_time(work)
