"""Bytes come through a real dfdaemon, whatever the registry speaks (test_registries has the stand-in)."""

from __future__ import annotations

from tests.node import images as image_store
from tests.node import parts, scene
from tests.node.boot import Node
from tests.node.parts import Faulty
from tests.node.test_registries import TLS_RULE, https_node, https_site, shares


def counted_dfdaemon(node: Node, rules: list[dict[str, object]] | None = None) -> Faulty:
    """A real dfdaemon behind a front that counts every byte: its own counters count whole 4 MiB pieces."""
    parts.start_dfdaemon(node, rules=rules, port=4011)
    return parts.start_front(node, 4001, 4011)


def test_a_real_dfdaemon_carries_nine_tenths_of_the_bytes_over_http() -> None:
    with Node(shares=parts.dragonfly_shares()) as node:
        registry = parts.start_registry(node)
        mirror = counted_dfdaemon(node)
        image_store.push(node, "python-nydus", f"{registry.host}/python-nydus:1")
        image_store.load_pause(node)
        scene.install(node)
        fetched, through = shares(node, mirror, registry)
        assert through >= 0.9 * fetched > 0
        proof = scene.agent_json(node, "doctor")
        assert {check["state"] for check in proof["checks"]} == {"ok"}, proof


def test_a_real_dfdaemon_carries_nine_tenths_of_the_bytes_over_https_with_a_private_ca() -> None:
    with https_node([TLS_RULE], counted_dfdaemon, parts.dragonfly_shares()) as (node, registry, mirror):
        scene.install(node, https_site(registry, registry.ca or ""))
        fetched, through = shares(node, mirror, registry)
        assert through >= 0.9 * fetched > 0
