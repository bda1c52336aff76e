"""The ladder of proof: ten rungs, climbed after a change, on a timer and on demand.

A rung above a failed one is still climbed where that says something new; where it cannot, it says "not proved".
"""

from __future__ import annotations

from collections.abc import Callable

from agent.apply import climb as climbing
from agent.apply import drift, rungs_mirror, rungs_nydusd, rungs_read, rungs_runtime, unrenewed
from agent.apply.before import Before
from agent.apply.climb import Climb, Rung, State
from agent.apply.daemon_view import daemon_view
from agent.apply.drift import Looked
from agent.apply.rungs_runtime import View
from agent.config.model import Config
from agent.errors import AgentError
from agent.node import versions
from agent.node.facts import Effective, Facts
from agent.ports import Ports

_MUST_HOLD = range(1, 8)
"""Rungs whose failure undoes a change. What lies above is the mirror's and running containers' affair: a dead mirror
must not keep a node from being set up, because the route to the origin is part of the set-up."""

_NEEDS = {3: (2,), 5: (4,), 6: (4, 5), 7: (3, 4, 5), 8: (), 10: (1, 9)}
"""Rungs without which a rung can say nothing of its own."""

LAST_THAT_DECIDES = 8
"""Rungs above are about a node that is set up: the mirror as the daemon sees it, and a read through it."""

_ROUTE_S = 5.0
_ROUTE_STEP_S = 0.1

NAMES = {
    1: "binaries", 2: "snapshotter unit", 3: "snapshotter answers", 4: "containerd answers", 5: "plugin registered",
    6: "CRI uses it", 7: "snapshot made", 8: "running nydusd", 9: "mirror", 10: "real read",
}  # fmt: skip


def climb(
    config: Config,
    ports: Ports,
    facts: Facts,
    effective: Effective,
    *,
    before: Before | None = None,
    each: Callable[[Rung], None] = lambda _: None,
    below: tuple[Rung, ...] = (),
    top: int = 10,
    looked: Looked | None = None,
) -> Climb:
    """Climb from above `below` (rungs that were climbed a moment ago) to `top`; `each` is told of every rung. `looked`
    is a look for drift of just now; without it a whole climb looks by itself.

    Raises nothing that a port raises.
    """
    view = View(ports, config, facts, before or Before())
    looks: dict[int, Callable[[], Rung]] = {
        1: lambda: rungs_runtime.binaries(view),
        2: lambda: rungs_runtime.snapshotter_unit(view),
        3: lambda: rungs_runtime.snapshotter_socket(view),
        4: lambda: rungs_runtime.containerd(view),
        5: lambda: rungs_runtime.plugin(view),
        6: lambda: rungs_runtime.cri(view),
        7: lambda: rungs_runtime.prepare(view),
        8: lambda: rungs_nydusd.running(view, effective),
        9: lambda: rungs_mirror.mirror(view, effective),
        10: lambda: rungs_read.real_read(view, effective),
    }
    found = {rung.number: rung for rung in below}
    for number, look in looks.items():
        if number in found or number > top:
            continue
        found[number] = _blocked(number, found) or look()
        each(found[number])
    if looked is None and top == max(looks):
        # A change that is not accepted yet is not what the records say: only a whole climb looks for drift.
        looked = drift.look(config, ports)
    looked = looked or Looked(None)
    keeping = unrenewed.look(view) if top == max(looks) else ()
    return Climb(
        ports.clock.now(), tuple(found.values()), looked.findings, versions.found(facts), unrenewed=keeping,
        unseen=looked.unseen,
    )  # fmt: skip


def _blocked(number: int, found: dict[int, Rung]) -> Rung | None:
    for below in _NEEDS.get(number, ()):
        if found[below].state is State.FAILED:
            return climbing.not_proved(number, NAMES[number], f"rung {below} ({NAMES[below]}) failed")
    return None


def await_route(ports: Ports) -> None:
    """Wait a moment until the daemon has read what was applied: before that, reads go to the origin for it."""
    end = ports.clock.monotonic() + _ROUTE_S
    while ports.clock.monotonic() < end:
        daemon = daemon_view(ports)
        if not daemon.fresh or daemon.route == "mirror":
            return
        ports.clock.sleep(_ROUTE_STEP_S)


def must_undo(found: Climb) -> AgentError | None:
    """The reason why a change must not stay, None where it may."""
    for rung in found.rungs:
        if rung.number in _MUST_HOLD and rung.state in (State.FAILED, State.UNKNOWN):
            return rung.error()
    return None
