"""Reads of a fleet against one server with a request limit: how many a second, how many in all, and until
when.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SLOT_S = 0.01
_SLOTS = round(1 / SLOT_S)


@dataclass(frozen=True)
class Demand:
    """What each node reads from the moment at which it starts."""

    requests: int
    in_flight: int
    read_s: tuple[float, float]
    """A read takes between these times, evenly distributed."""
    retry_s: tuple[float, float] = (0.4, 1.0)
    """After a 429. nydusd 2.2.0 was measured to ask again every 0.4 to 1 s."""


@dataclass(frozen=True)
class Limit:
    """A token bucket: `rate` requests a second, at most one second's worth saved.

    A refusal (429) costs `refusal` of a request, taken from what comes next; at most half of that, because
    refusing is what a server does first when it has too much to do.
    """

    rate: float
    refusal: float = 0.2


@dataclass
class Load:
    """What the server saw."""

    per_second: dict[int, int] = field(default_factory=dict)
    total: int = 0
    refused: int = 0
    done: list[float] = field(default_factory=list)
    """For each node, in the order of the starts: when its last read was answered."""

    @property
    def peak(self) -> int:
        """Requests in the busiest second."""
        return max(self.per_second.values(), default=0)


def serve(
    starts: Sequence[float],
    demand: Demand,
    limit: Limit | None,
    rng: random.Random,
    stalled: Callable[[int, float], float] | None = None,
) -> Load:
    """Serve all nodes. `stalled(node, at)` is the time at which a read that was begun then reaches the
    server.
    """
    return _Server(starts, demand, limit, rng, stalled or (lambda _node, at: at)).run()


class _Server:
    def __init__(
        self,
        starts: Sequence[float],
        demand: Demand,
        limit: Limit | None,
        rng: random.Random,
        stalled: Callable[[int, float], float],
    ) -> None:
        self._demand = demand
        self._limit = limit
        self._random = rng.random
        self._stalled = stalled
        self._first = int(min(starts, default=0.0)) * _SLOTS
        self._slots: dict[int, list[int]] = {}
        self._answers: dict[int, list[int]] = {}
        self._to_begin = [demand.requests] * len(starts)
        self._to_end = [demand.requests] * len(starts)
        self._load = Load(done=[0.0] * len(starts))
        self._pending = 0
        for node, at in enumerate(starts):
            for _ in range(demand.in_flight):
                self._begin(node, at)

    def run(self) -> Load:
        slot = self._first
        tokens = self._limit.rate if self._limit else 0.0
        debt = 0.0
        while self._pending:
            for node in self._answers.pop(slot, ()):
                self._answered(node, slot)
            asked = self._slots.pop(slot, ())
            if self._limit is None:
                served = len(asked)
            else:
                refill = self._limit.rate * SLOT_S
                paid = min(debt, refill / 2)
                tokens, debt = min(self._limit.rate, tokens + refill - paid), debt - paid
                served = min(len(asked), int(tokens))
                tokens -= served
                # Refusals that were never paid for are forgotten after a second's worth.
                debt = min(debt + (len(asked) - served) * self._limit.refusal, self._limit.rate)
            if asked:
                self._count(asked, served, slot)
            slot += 1
        return self._load

    def _count(self, asked: Sequence[int], served: int, slot: int) -> None:
        load, second = self._load, slot // _SLOTS
        load.per_second[second] = load.per_second.get(second, 0) + len(asked)
        load.total += len(asked)
        load.refused += len(asked) - served
        low, high = (round(value / SLOT_S) for value in self._demand.read_s)
        for node in asked[:served]:
            self._answers.setdefault(slot + max(1, low + int(self._random() * (high - low + 1))), []).append(
                node
            )
        low, high = (round(value / SLOT_S) for value in self._demand.retry_s)
        for node in asked[served:]:
            self._slots.setdefault(slot + low + int(self._random() * (high - low + 1)), []).append(node)

    def _begin(self, node: int, at: float) -> None:
        if self._to_begin[node]:
            self._to_begin[node] -= 1
            self._pending += 1
            self._slots.setdefault(round(self._stalled(node, at) / SLOT_S), []).append(node)

    def _answered(self, node: int, slot: int) -> None:
        self._pending -= 1
        self._to_end[node] -= 1
        if not self._to_end[node]:
            self._load.done[node] = slot * SLOT_S
        self._begin(node, (slot + 1) * SLOT_S)
