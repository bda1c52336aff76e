"""The fleet's return in small: as many nodes a second as ten thousand have in a minute."""

from __future__ import annotations

import os
import random
from pathlib import Path

from agent.health.policy import return_delay_s
from agent.node.machine import node_identity
from tests.bench import fleet
from tests.bench.sim.load import Demand, Limit, serve

SMALL = fleet.Size(nodes=500, window_s=3)


def test_a_fleet_returns_as_smoothly_as_an_ideal_one_and_not_so_without_its_slots() -> None:
    rows, goals = fleet.simulate(SMALL)
    assert [goal.what for goal in goals if not goal.met] == []
    assert len(goals) == 7
    at_once = next(row for row in rows if row.case == "return: no stagger")
    assert float(at_once.extra["x ideal"]) > 1.2
    ours = next(row for row in rows if row.case == "return: the node's own slot")
    slots = [return_delay_s(name, SMALL.window_s) for name in fleet.machine_ids(SMALL.nodes)]
    assert max(slots) + 2.0 < ours.max < max(slots) + 3.5  # ten successes, a canary, the slot


def test_slots_are_as_even_as_numbers_drawn_at_random() -> None:
    *slots, drawn = fleet.slot_rows(fleet.machine_ids(10_000))
    assert len(slots) == 1 + len(fleet.NAMES)
    assert [slot.case for slot in slots if slot.max > drawn.max] == []


def test_clones_that_share_a_machine_id_are_told_apart_by_name(tmp_path: Path) -> None:
    shared = tmp_path / "machine-id"
    shared.write_text("0123456789abcdef0123456789abcdef\n")
    assert node_identity(shared) == f"0123456789abcdef0123456789abcdef {os.uname().nodename}"
    assert node_identity(tmp_path / "none") == f" {os.uname().nodename}"


def test_a_server_within_its_limit_refuses_nothing_and_counts_each_request_once() -> None:
    load = serve([0.0, 10.0], Demand(5, 2, (0.1, 0.1)), Limit(100.0), random.Random(1))
    assert (load.total, load.refused, load.per_second) == (10, 0, {0: 5, 10: 5})
    assert [round(done, 1) for done in load.done] == [0.3, 10.3]


def test_a_server_beyond_its_limit_refuses_and_is_asked_again() -> None:
    nodes, demand = 100, Demand(5, 5, (0.1, 0.1))
    load = serve([0.0] * nodes, demand, Limit(50.0), random.Random(1))
    assert load.total == nodes * demand.requests + load.refused
    assert load.peak > 500
    assert (
        500 / 50 - 2 < max(load.done) < 2 * 500 / 50
    )  # a refusal costs, at most half of what the limit gives
