"""What the closed loop finds where the detector is broken on purpose, and nothing where it is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.health.policy import Policy
from agent.health.route import Prospect
from tests.bench import detector, quick_form
from tests.bench.sim.closed import Node, Seen
from tests.bench.sim.world import Fault, Outage, World, Wrong

_DEADLINE_S = 600
"""It takes about twenty seconds on a machine that does nothing else."""
HOUR_S = 3600.0
HANG = Fault(3000.0, 3100.0, Wrong.HANGS)


class Seldom(Node):
    """Asks origins each minute."""

    watch_s = 60.0


class Hopeful(Node):
    """Says that reads return at once."""

    def predicted(self) -> Prospect:
        return replace(super().predicted(), seconds=0.0)


def lived(
    tmp_path: Path,
    faults: tuple[Fault, ...],
    outages: tuple[Outage, ...] = (),
    *,
    restarts: tuple[float, ...] = (),
    broken: Callable[[Policy], Policy] = lambda policy: policy,
    kind: type[Node] = Node,
) -> Seen:
    rng = random.Random(1)
    world = World(faults, (outages,), rng)
    node = kind(broken(detector.policy(rng)), world, rng, "test", str(tmp_path / "memory"))
    return node.live(2 * HOUR_S, restarts)


def test_a_detector_that_is_right_breaks_no_property(tmp_path: Path) -> None:
    lies = Fault(4000.0, 4900.0, Wrong.LIES)
    seen = lived(tmp_path, (HANG, lies), (Outage(4500.0, 4600.0, silent=True),), restarts=(3050.0, 4300.0))
    assert not seen.violations, seen.told
    assert (len(seen.fences) >= 2, seen.restarts, seen.predictions >= 2) == (True, 2, True)


@pytest.mark.parametrize(
    ("broken", "faults", "found"),
    [
        (lambda policy: replace(policy, window_s=5.0, window_cap_s=8.0), (HANG,), "that HANGS"),
        (lambda policy: replace(policy, canary_interval_s=60.0),
         (Fault(3000.0, 3100.0, Wrong.PATH_HANGS),), "that PATH_HANGS"),
        (lambda policy: replace(policy, stall_half_life_s=1e9, patience_s=60.0),
         (*(Fault(at, at + 2, Wrong.HANGS) for at in (100.0, 200.0, 300.0)), HANG), "that HANGS"),
    ],
)  # fmt: skip
def test_a_detector_that_is_slow_is_found_out(
    tmp_path: Path, broken: Callable[[Policy], Policy], faults: tuple[Fault, ...], found: str
) -> None:
    assert any(found in what for what in lived(tmp_path, faults, broken=broken).violations)


def test_a_restart_that_remembers_nothing_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()  # so nothing can be written there
    lies = Fault(3000.0, 3600.0, Wrong.LIES)
    # The lease is over when the agent comes back: only what it remembers holds the route.
    seen = lived(tmp_path, (lies,), restarts=(3100.0,), broken=lambda policy: replace(policy, lease_s=0.0))
    assert "a restart moved the route to a mirror that was held bad" in seen.violations


def test_an_agent_that_asks_origins_seldom_is_found_out(tmp_path: Path) -> None:
    dead = Fault(3000.0, 3005.0, Wrong.DEAD)
    out = (Outage(3006.0, 3060.0, silent=False),)
    slow = lived(
        tmp_path, (dead,), out, broken=lambda policy: replace(policy, return_delay_s=60.0), kind=Seldom
    )
    assert any("no origin does" in what for what in slow.violations)


def test_a_return_that_comes_later_than_it_was_told_is_found_out(tmp_path: Path) -> None:
    faults = tuple(Fault(at, at + 20.0, Wrong.DEAD) for at in (100.0, 200.0, 300.0))
    seen = lived(tmp_path, faults, kind=Hopeful)
    assert "a predicted return was off by more than a tenth" in seen.violations


def test_stalls_and_faults_of_any_kind_keep_no_node_away_and_no_read_waiting_in_the_quick_form() -> None:
    done = quick_form.run("detector", _DEADLINE_S)
    assert done.code == 0
    rows = done.content["rows"]
    assert sum(row["extra"]["hours"] for row in rows) >= 190
    assert sum(row["extra"].get("predictions", 0) for row in rows) > 50
