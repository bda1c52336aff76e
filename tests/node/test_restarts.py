"""How often and when restarts are made, on a node with a clock and units of its own: never more than was
allowed.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import NO_CHANGE

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |Drift: |ChangedSinceProof: )",
    r"^init.scope: (nydus-agent-apply.service: |Failed to start nydus-agent-apply.service)",
    r"^nydus-agent-apply.service: ",
)

SITE = "/etc/nydus-agent/conf.d/50-site.toml"
SNAPSHOTTER_CONFIG = "/etc/nydus/snapshotter.toml"
FRACTION = """
from agent.health.policy import return_delay_s
from agent.node.machine import node_identity
print(return_delay_s(node_identity(), 1_000_000) / 1_000_000)
"""
UP_LONG = r"""
awk '{ $22 = 1; print }' /proc/1/stat >/run/long-ago
mount --bind /run/long-ago /proc/1/stat
"""
"""A node that has just booted waits for nobody; PID 1 is told of here as if the machine had begun with it."""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with scene.staged(installed=False) as stage:
        scene.install_only(stage.node, NO_CHANGE)
        yield stage.node


def want(node: Node, level: str, *, per_hour: int, window_s: int = 0) -> None:
    """Another log level, which the snapshotter is restarted for."""
    site = NO_CHANGE.replace("on_install = false", f"on_install = false\nrestarts_per_hour = {per_hour}")
    site = site.replace("[fleet]", f"[fleet]\nrestart_window_s = {window_s}")
    node.write(SITE, f'{site}[snapshotter]\nlog_level = "{level}"\n')


def by_itself(node: Node) -> str:
    """What the unit that nobody waits for said."""
    since = node.run(["date", "+%s.%N"]).stdout.strip()
    node.run(["systemctl", "start", scene.APPLY_UNIT], check=False, timeout=120)
    return node.journal(scene.APPLY_UNIT, since=f"@{since}")


def state(node: Node) -> tuple[tuple[int, ...], str, str]:
    """What a restart, or a change, would change."""
    pids = tuple(map(node.main_pid, ("containerd", "nydus-snapshotter")))
    return pids, node.read("/etc/containerd/config.toml"), _text(node, SNAPSHOTTER_CONFIG)


def _text(node: Node, path: str) -> str:
    return node.read(path) if node.exists(path) else ""


def restarts(node: Node) -> list[str]:
    path = "/var/lib/nydus-agent/restarts.json"
    return [one["unit"] for one in json.loads(node.read(path))["restarts"]] if node.exists(path) else []


def test_a_node_of_a_fleet_restarts_at_its_own_turn_and_is_untouched_until_then(node: Node) -> None:
    fraction = float(
        node.run(["python3", "-c", FRACTION], env={"PYTHONPATH": "/usr/share/nydus-node-agent"}).stdout
    )
    window_s = min(14_400, math.ceil(5 / fraction))
    turn_s = fraction * window_s
    want(node, "info", per_hour=6, window_s=window_s)
    before = state(node)
    node.run(UP_LONG)
    began = time.monotonic()
    node.run(["systemctl", "start", "--no-block", scene.APPLY_UNIT])
    node.wait_until(
        lambda: "at this node's turn" in node.journal(scene.APPLY_UNIT), 30, "it waits for its turn"
    )
    told = re.search(r"containerd\.service .*will be restarted in (\d+) s", node.journal(scene.APPLY_UNIT))
    assert told is not None
    assert abs(int(told[1]) - turn_s) <= 1
    assert state(node) == before
    node.wait_until(
        lambda: "generation 1 is in force" in node.journal(scene.APPLY_UNIT), 60, "it was applied"
    )
    node.run(["umount", "/proc/1/stat"])
    assert time.monotonic() - began > turn_s
    assert restarts(node) == ["containerd.service"]
    print(f"turn after {turn_s:.1f} s of {window_s} s; changed after {time.monotonic() - began:.1f} s")


def test_what_nobody_waits_for_lets_a_unit_run_a_while_before_it_restarts_it_again(node: Node) -> None:
    want(node, "debug", per_hour=6)
    assert scene.agent(node, "apply", check=False).returncode in (0, 3)
    assert restarts(node) == ["containerd.service", "nydus-snapshotter.service"]
    want(node, "info", per_hour=6)
    before = state(node)
    told = by_itself(node)
    assert "NNA0415" in told
    assert "nydus-snapshotter.service has run for" in told
    assert state(node) == before


def test_beyond_the_budget_nothing_is_touched_until_somebody_takes_it_upon_himself(node: Node) -> None:
    want(node, "warn", per_hour=1)
    before = state(node)
    refused = scene.agent(node, "apply", check=False)
    assert refused.returncode == 75
    assert "NNA0415" in refused.stderr
    assert (
        "1 restart of nydus-snapshotter.service within the last hour, of 1 that are allowed" in refused.stderr
    )
    assert "nydus-agent apply --now" in refused.stderr
    assert state(node) == before
    assert scene.agent(node, "apply", "--now", check=False).returncode in (0, 3)
    assert 'level = "warn"' in node.read(SNAPSHOTTER_CONFIG)
    assert restarts(node) == ["containerd.service", *["nydus-snapshotter.service"] * 2]
