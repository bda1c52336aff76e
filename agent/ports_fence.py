"""The Protocol of the fence; agent.ports is the place to import it from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.node.facts_daemon import FenceAbility


@dataclass(frozen=True, slots=True)
class Released:
    """What became of connections to a fenced mirror."""

    at_once: int = 0
    """Destroyed, whatever they were doing."""
    waiting: int = 0
    """Destroyed: a request had been sent and no byte of its answer had come."""
    stalled: int = 0
    """Destroyed: nothing had come for the whole patience, within an answer (or since one: an idle
    connection).
    """
    spared: int = 0
    """Left: an answer is coming, or came a moment ago."""


class Fence(Protocol):
    """The nft fence and the destruction of sockets (DESIGN: "How a route is switched")."""

    def available(self) -> str:
        """ "" where nft can be used, else the reason."""

    def self_test(self, *, deadline_s: float, mirror: tuple[str, int] | None = None) -> FenceAbility:
        """Fence a port of our own for a moment, in a table of its own, and show that a connect is refused and
        that an open connection is destroyed; with `mirror`, also that a packet of ours to that address meets
        a rule (others' connections to it are not touched). Leaves nothing behind.
        """

    def assert_table(self) -> None:
        """Make the table, set, chain and rule as they must be (idempotent), and have ready what raising the
        fence needs: it must need no descriptor then. Raises FenceError.
        """

    def renew(self, address: str, port: int, lease_ms: int) -> None:
        """Fence the address for `lease_ms` from now, whatever became of the table meanwhile.

        Raises FenceError.
        """

    def intact(self) -> bool:
        """Whether table, chain and rules are still those that this process made. Raises FenceError."""

    def stands(self, address: str, port: int) -> bool:
        """Whether the address is fenced, by a table that is intact. Raises FenceError."""

    def refused(self) -> int:
        """How many attempts to connect the fence has refused since its table was made."""

    def lift(self, address: str, port: int) -> None:
        """Remove the element (no error where it has lapsed)."""

    def fenced(self) -> tuple[tuple[str, int, int], ...]:
        """(address, port, milliseconds left) of each element."""

    def destroy(self, address: str, port: int, cgroups: Sequence[str]) -> int:
        """Destroy the sockets of these cgroups towards the address; how many. Raises FenceError."""

    def release(
        self,
        address: str,
        port: int,
        cgroups: Sequence[str],
        patience_s: float,
        *,
        at_once: Sequence[str] = (),
    ) -> Released:
        """Destroy all sockets of the cgroups `at_once` towards the address, and then of `cgroups` those that
        wait for an answer's first byte, and those that got nothing for `patience_s`: their owner gives a
        whole transfer up when its connection ends. A cgroup in both is treated as one of `at_once`. Raises
        FenceError.
        """

    def remove_table(self) -> None:
        """Delete our table (no error where there is none)."""
