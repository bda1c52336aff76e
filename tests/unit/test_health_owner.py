"""Whose the listener on the mirror's port is; which socket that is, tests/contract/test_listener.py asks the
kernel.
"""

from __future__ import annotations

import pytest

from agent.facts.node import Listener
from agent.health.evidence import Owner, is_loopback, judge
from agent.health.policy import return_delay_s

ROOTS = Listener("0.0.0.0", 4001, 0, 1)
USERS = Listener("::", 4001, 1000, 2)


@pytest.mark.parametrize(
    ("found", "allowed", "owner", "evidence"),
    [
        (ROOTS, {0}, Owner.OK, "0.0.0.0:4001 is held by uid 0"),
        (USERS, {0}, Owner.FOREIGN, "[::]:4001 is held by uid 1000"),
        (USERS, {0, 1000}, Owner.OK, "[::]:4001 is held by uid 1000"),
        (None, {0}, Owner.NONE, "nobody listens on 127.0.0.1:4001 here"),
    ],
)
def test_the_mirrors_port_is_roots_or_the_configured_users(
    found: Listener | None, allowed: set[int], owner: Owner, evidence: str
) -> None:
    assert judge(found, "127.0.0.1", 4001, frozenset(allowed)) == (owner, evidence)


def test_only_connections_to_the_loopback_go_to_a_socket_of_this_node_for_certain() -> None:
    loopback = ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"]
    assert [
        text for text in (*loopback, "10.0.0.1", "fd00::1", "::ffff:10.0.0.1") if is_loopback(text)
    ] == loopback


def test_a_fleet_returns_spread_over_its_window_and_each_node_at_its_own_time() -> None:
    slots = [return_delay_s(f"node-{number:05}", 60) for number in range(10_000)]
    assert slots == [return_delay_s(f"node-{number:05}", 60) for number in range(10_000)]
    assert all(0 <= slot < 60 for slot in slots)
    per_second = [sum(1 for slot in slots if int(slot) == second) for second in range(60)]
    assert max(per_second) < 1.4 * 10_000 / 60
    assert return_delay_s("node", 0) == 0.0
