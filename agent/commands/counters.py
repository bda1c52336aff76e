"""What the programs of a node have counted, before and after one start, and what that start moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.bench.cases import Counted
from agent.commands.peer import Traffic

_FROM_ZERO = "was started anew meanwhile, and counts from 0 again"


@dataclass(frozen=True, slots=True)
class NodeCounters:
    """What was counted so far.

    Each program counts from its own start, so one that was started anew tells nothing.
    """

    fetched: Mapping[str, int] | None
    """By nydusd, by socket; None: one did not tell."""
    traffic: Traffic | None
    """By dfdaemon; None: it did not tell."""
    received: Mapping[str, int]
    """By interface."""

    def since(self, before: NodeCounters, pulled: int) -> Counted:
        """What one run moved; the figures that cannot be told are None, with the reason."""
        fetched, traffic, unknown = None, None, []
        if self.fetched is not None and before.fetched is not None:
            fetched = _moved(self.fetched, before.fetched)
            unknown += [] if fetched is not None else [f"nydusd {_FROM_ZERO}"]
        if self.traffic is not None and before.traffic is not None:
            traffic = self.traffic.since(before.traffic)
            unknown += [] if traffic is not None else [f"dfdaemon {_FROM_ZERO}"]
        gone = before.received.keys() - self.received.keys()
        received = None if gone else _moved(self.received, before.received)
        told = Counted(pulled, fetched, received=received, unknown="; ".join(unknown))
        if traffic is None:
            return told
        return replace(told, source=traffic.source, remote=traffic.remote, local=traffic.local)


def _moved(now: Mapping[str, int], before: Mapping[str, int]) -> int | None:
    """The sum of what each counted meanwhile, those that are new from 0; None: one of them has begun anew."""
    moved = [count - before.get(name, 0) for name, count in now.items()]
    return None if min(moved, default=0) < 0 else sum(moved)
