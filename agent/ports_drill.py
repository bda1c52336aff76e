"""The port of a drill: a mirror that is well looks dead or hung to this node for a while."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from agent.ports import Cgroups, Clock, Ledger


class DrillKind(enum.StrEnum):
    """What is rehearsed."""

    DOWN = "mirror-down"
    """Nobody listens any more: connections are refused, open ones end."""
    HANG = "mirror-hang"
    """The mirror is frozen: packets to it are lost without a word."""


@dataclass(frozen=True, slots=True)
class DrillScope:
    """Whose packets are meant."""

    proxy: tuple[str, int]
    """The mirror's address and port."""
    ping: tuple[str, int]
    """Where its health URL is; only the agent's own packets to it are meant (the kubelet asks it too)."""
    agent_uid: int
    nydusd: tuple[str, ...]
    """The cgroups of nydusd. Others' transfers that are under way, such as containerd's, are spared."""


@dataclass(frozen=True, slots=True)
class Struck:
    """How many open connections to the mirror were ended (DOWN) or silenced (HANG)."""

    nydusd: int
    agent: int


class Drill(Protocol):
    """Nothing of a drill outlives its time or the process that began it: the kernel sees to both."""

    def begin(self, kind: DrillKind, scope: DrillScope, seconds: float) -> Struck:
        """From now on, for at most `seconds`.

        Raises FenceError, then nothing is left; also where one is under way.
        """

    def end(self) -> None:
        """At once; no error where none is under way."""


@dataclass(frozen=True, slots=True)
class DrillPorts:
    """What the verb touches."""

    drill: Drill
    cgroups: Cgroups
    ledger: Ledger
    clock: Clock
