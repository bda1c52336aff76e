"""Somebody sets the node's wall clock under a whole daemon: no route moves, and nothing lasts longer than it
should.

`make test-clock` shows the same on a booted node, where it sets the clock of the machine.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from agent.node.machine import present
from tests.fakes.event_loop import clock, until
from tests.fakes.mirror import Way
from tests.unit.daemon_node import Node, healthy

STEPS = (5, -5, -600, 600, 86_400, -86_400)


def moves(node: Node) -> list[tuple[str, str]]:
    return [(entry["from"], entry["to"]) for entry in node.status["history"]]


@pytest.mark.parametrize("route", ["mirror", "origin"])
async def test_a_clock_that_is_set_moves_no_route_and_is_no_outage(tmp_path: Path, route: str) -> None:
    async with healthy(tmp_path) as node:
        if route == "origin":
            node.mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
        before = moves(node)
        for seconds in STEPS:
            clock().step(seconds)
            await asyncio.sleep(3)
            assert node.fenced() is (route == "origin")
        await until(lambda: abs(node.status["at"] - time.time()) < 10)
        assert (node.status["route"], moves(node)) == (route, before)


@pytest.mark.parametrize("seconds", [-600, -86_400])
async def test_a_mirror_that_dies_after_a_step_back_is_fenced_and_used_again_as_ever(
    tmp_path: Path, seconds: int
) -> None:
    async with healthy(tmp_path) as node:
        clock().step(seconds)
        await asyncio.sleep(1)
        await node.mirror.die()
        node.fakes.tables.held.clear()
        assert await until(node.fenced) < 0.05
        await until(node.is_("down", "origin"))
        clock().step(-seconds)
        clock().step(seconds)
        await node.mirror.revive()
        node.fakes.tables.held[node.mirror.proxy_port] = 0
        assert await until(node.is_("healthy", "mirror")) < 10
        assert not node.fenced()


async def test_a_pin_does_not_outlast_a_clock_that_is_stepped_back(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        now = present()
        node.put(node.places.pin, {
            "route": "origin", "until": now.now + 5, "reason": "test", "by": "root", "at": now.now,
            "seconds": 5,
            "boot": now.boot, "boottime": now.boottime,
        })  # fmt: skip
        await until(node.is_("healthy", "origin"))
        clock().step(-600)
        assert 3 < await until(node.is_("healthy", "mirror")) < 15
