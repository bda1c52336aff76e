"""A slice of `make bench-plan-worlds`: what holds of each change on each node of a small world."""

from __future__ import annotations

from agent import paths
from agent.containerd.view import names_snapshotter
from tests.fakes.node import FakeNode
from tests.unit.plan_node import CONTAINERD_CONFIG
from tests.unit.small_worlds import Findings, World, apply, broken, explore, worlds

_EVERY = 131
"""A prime, so that no part of the worlds is always the same."""


def test_each_change_keeps_the_rules_at_each_step_and_is_undone_wherever_it_fails() -> None:
    found = Findings()
    explored = list(worlds())[::_EVERY]
    for world in explored:
        explore(world, found)
    assert found.wrong[:3] == []
    assert found.counts["worlds"] == len(explored)
    for verb in ("apply", "rollback", "remove"):
        assert found.counts[f"{verb}: acts failed"] > 10 * len(explored), found.counts


def test_the_parts_of_the_world_are_all_in_the_slice() -> None:
    explored = list(worlds())[::_EVERY]
    for part in ("config", "unit", "versions", "mode", "switch"):
        whole = {getattr(world, part) for world in worlds()}
        assert {getattr(world, part) for world in explored} == whole, part


def well(world: World) -> FakeNode:
    """A node on which it was applied."""
    node = world.node()
    apply(world.first)(node).carry_out(node)
    assert list(broken(node, {})) == []
    assert names_snapshotter(node.files.files[CONTAINERD_CONFIG].content)
    return node


def edit(node: FakeNode, path: str, old: bytes, new: bytes) -> None:
    content = node.files.files[path].content
    assert old in content
    node.files.put(path, content.replace(old, new))


FIRST = next(worlds())


def test_a_node_that_breaks_a_rule_is_seen() -> None:
    unregistered, stopped, silent, alone, strict = (well(FIRST) for _ in range(5))
    edit(unregistered, CONTAINERD_CONFIG, b"proxy_plugins.nydus", b"proxy_plugins.other")
    assert "not registered" in next(broken(unregistered, {}))
    stopped.units.disable(paths.SNAPSHOTTER_UNIT)
    assert "not after a boot" in next(broken(stopped, {}))
    silent.snapshotter.answering.clear()
    assert "does not answer" in next(broken(silent, {}))
    edit(alone, "/etc/containerd/certs.d/docker.io/hosts.toml", b"server", b"other")
    assert "no way to the registry" in next(broken(alone, {}))
    edit(strict, paths.NYDUSD_TEMPLATE, b'"fallback": true', b'"fallback": false')
    assert "nydusd has no way" in next(broken(strict, {}))


def test_a_change_without_a_record_is_seen() -> None:
    node = well(FIRST)
    assert "without a record" in next(broken(node, dict(FIRST.node().files.files)))
