"""A fence of dictionaries; leases end on the clock that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.errors import FenceError
from agent.facts.node import FenceAbility, Unknown
from agent.ports import Released
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults


class FakeFence:
    """Faults count `assert_table`, `renew`, `stands`, `destroy`, `release`."""

    def __init__(self, clock: FakeClock | None = None, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.clock = clock if clock is not None else FakeClock()
        self.unavailable = ""
        """The reason why nft cannot be used; "" = it can."""
        self.ability: FenceAbility | Unknown = FenceAbility(
            usable=True, reason="a connect was refused and an open connection destroyed"
        )
        self.table = False
        self.destroyed: list[tuple[str, int, tuple[str, ...]]] = []
        self.refusals = 0
        """What the counter of the table says."""
        self.open_sockets = 0
        """How many sockets that end at once the next `destroy` or `release` finds."""
        self.released: list[tuple[str, int, tuple[str, ...], tuple[str, ...], float]] = []
        """How `release` was called: address, port, the cgroups whose sockets end at once, the others, the
        patience.
        """
        self.transfers = Released()
        """What the next `release` finds; those that it spares are there the next time too."""
        self._until: dict[tuple[str, int], float] = {}

    def flush(self) -> None:
        """Somebody runs `nft flush ruleset`."""
        self.table = False
        self._until.clear()

    def available(self) -> str:
        return self.unavailable

    def self_test(
        self, *, deadline_s: float, mirror: tuple[str, int] | None = None
    ) -> FenceAbility | Unknown:
        return FenceAbility(usable=False, reason=self.unavailable) if self.unavailable else self.ability

    def assert_table(self) -> None:
        with self.faults.around("assert_table"):
            self._need_nft()
            self.table = True

    def renew(self, address: str, port: int, lease_ms: int) -> None:
        with self.faults.around("renew", address, str(port)):
            self._need_nft()
            self.table = True
            self._until[address, port] = self.clock.monotonic() + lease_ms / 1000

    def lift(self, address: str, port: int) -> None:
        self._until.pop((address, port), None)

    def intact(self) -> bool:
        return self.table

    def stands(self, address: str, port: int) -> bool:
        with self.faults.around("stands", address, str(port)):
            return self.table and any((address, port) == found[:2] for found in self.fenced())

    def refused(self) -> int:
        return self.refusals if self.table else 0

    def fenced(self) -> tuple[tuple[str, int, int], ...]:
        now = self.clock.monotonic()
        left = ((*where, round((until - now) * 1000)) for where, until in sorted(self._until.items()))
        return tuple((address, port, ms) for address, port, ms in left if ms > 0)

    def destroy(self, address: str, port: int, cgroups: Sequence[str]) -> int:
        with self.faults.around("destroy", address, str(port)):
            self.destroyed.append((address, port, tuple(cgroups)))
            found, self.open_sockets = self.open_sockets, 0
        return found

    def release(
        self,
        address: str,
        port: int,
        cgroups: Sequence[str],
        patience_s: float,
        *,
        at_once: Sequence[str] = (),
    ) -> Released:
        with self.faults.around("release", address, str(port)):
            self.released.append((address, port, tuple(at_once), tuple(cgroups), patience_s))
            found, self.transfers = self.transfers, Released(spared=self.transfers.spared)
            ended, self.open_sockets = self.open_sockets, 0
        return replace(found, at_once=ended)

    def remove_table(self) -> None:
        self.flush()

    def _need_nft(self) -> None:
        if self.unavailable:
            raise FenceError("NNA0801", "nft cannot be used", cause=self.unavailable)
