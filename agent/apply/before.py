"""What ran before a change: so little that an apply with nothing to do need not load the ladder for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent import paths
from agent.apply import waits
from agent.ports import Ports


@dataclass(frozen=True, slots=True)
class Before:
    """What ran before a change, so that a restart counts only when something new runs. Empty: nothing was restarted."""

    restarted: frozenset[str] = field(default_factory=frozenset)
    snapshotter_invocation: str = ""
    containerd_pid: int = 0


def before_change(ports: Ports, restarted: frozenset[str]) -> Before:
    """What runs now, so that after a change a restart counts only when something new runs."""
    pid = waits.containerd_pid(ports) if restarted - {paths.SNAPSHOTTER_UNIT} else 0
    invocation = ""
    if paths.SNAPSHOTTER_UNIT in restarted:
        unit = ports.units.get(paths.SNAPSHOTTER_UNIT)
        invocation = unit.invocation_id if unit is not None else ""
    return Before(restarted, invocation, pid)
