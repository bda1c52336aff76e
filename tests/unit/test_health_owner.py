"""Who listens on the mirror's port, read from the kernel's own tables."""

from __future__ import annotations

import pytest

from agent.health.fleet import return_delay_s
from agent.health.owner import Listener, Owner, judge, listeners

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0FA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1111
   1: 00000000:0FA3 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2222
   2: 0100007F:0FA1 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 3333
   3: 0A00000A:0FA4 00000000:0000 0A 00000000:00000000 00:000000
   4: 0100007F:PORT 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7777
"""
ANY = "00000000000000000000000000000000"
QUEUES = "00000000:00000000 00:00000000 00000000"
TCP6 = f"""\
  sl  local_address  remote_address  st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {ANY}:0FA5 {ANY}:0000 0A {QUEUES}     0        0 4444
   1: 00000000000000000000000001000000:0FA6 {ANY}:0000 0A {QUEUES}  1000        0 5555
   2: 0000000000000000FFFF00000100007F:0FA7 {ANY}:0000 0A {QUEUES}  1000        0 6666
"""
ROWS = (*listeners(TCP), *listeners(TCP6))
ROOT = frozenset({0})


def test_only_listening_rows_that_can_be_read_count() -> None:
    assert listeners(TCP) == (Listener("127.0.0.1", 4001, 0, 1111), Listener("0.0.0.0", 4003, 1000, 2222))
    assert [row.address for row in listeners(TCP6)] == ["::", "::1", "127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "port", "owner"),
    [
        ("127.0.0.1", 4001, Owner.OK),
        ("127.0.0.2", 4001, Owner.NONE),
        ("127.0.0.1", 4003, Owner.FOREIGN),  # through the wildcard address
        ("::1", 4003, Owner.NONE),  # an IPv4 wildcard does not cover IPv6
        ("127.0.0.1", 4005, Owner.OK),  # a dual-stack listener
        ("::1", 4005, Owner.OK),
        ("::1", 4006, Owner.FOREIGN),
        ("127.0.0.1", 4006, Owner.NONE),
        ("127.0.0.1", 4007, Owner.FOREIGN),  # an IPv4 address mapped into IPv6
        ("10.0.0.10", 4004, Owner.NONE),  # the row was cut short
        ("192.0.2.1", 4001, Owner.NONE),
    ],
)
def test_the_owner_of_the_mirrors_port(address: str, port: int, owner: Owner) -> None:
    assert judge(ROWS, address, port, ROOT)[0] is owner


def test_the_configured_user_may_hold_the_port() -> None:
    assert judge(ROWS, "127.0.0.1", 4003, frozenset({0, 1000})) == (Owner.OK, "0.0.0.0:4003 is held by uid 1000")


def test_one_foreign_socket_beside_a_right_one_is_foreign() -> None:
    rows = (Listener("127.0.0.1", 4001, 0, 1), Listener("0.0.0.0", 4001, 1000, 2))
    assert judge(rows, "127.0.0.1", 4001, ROOT) == (Owner.FOREIGN, "0.0.0.0:4001 is held by uid 1000")


def test_a_fleet_returns_spread_over_its_window_and_each_node_at_its_own_time() -> None:
    slots = [return_delay_s(f"node-{number:05}", 60) for number in range(10_000)]
    assert slots == [return_delay_s(f"node-{number:05}", 60) for number in range(10_000)]
    assert all(0 <= slot < 60 for slot in slots)
    per_second = [sum(1 for slot in slots if int(slot) == second) for second in range(60)]
    assert max(per_second) < 1.4 * 10_000 / 60
    assert return_delay_s("node", 0) == 0.0
