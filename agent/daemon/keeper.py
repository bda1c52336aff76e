"""Carries out what the health machine asks of the fence, and keeps count."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from agent.errors import FenceError, PortError
from agent.ports import Cgroups, Fence

NYDUSD = ("nydusd", "containerd-nydus"[:15])
"""How their short names in /proc/PID/comm begin: a nydusd may be called nydusd-2.4.4, and the snapshotter's cgroup is
that of every nydusd which it starts (KillMode=process, its own cgroup option off), whatever that one is called."""
_SELF_TEST_S = 1.0


@dataclass(slots=True)
class FenceCounters:
    """Since the daemon's start, over reloads too."""

    raised: int = 0
    renewed: int = 0
    destroyed: int = 0
    refused: int = 0


class Keeper:
    """The fence around one mirror. Calls take a few milliseconds; they raise FenceError where the fence is not up."""

    def __init__(
        self, fence: Fence, cgroups: Cgroups, mirror: tuple[str, int], counters: FenceCounters | None = None
    ) -> None:
        self._fence = fence
        self._cgroups = cgroups
        self._where: tuple[str, ...] = ()
        self._seen_refused = 0
        self.address, self.port = mirror
        self.counters = counters if counters is not None else FenceCounters()
        self.until = 0.0
        """When the lease ends (monotonic); 0: the fence is not up."""
        self.destroy_error = ""
        """Why connections could not be destroyed the last time, where they could not."""
        self.lift_due = False

    def self_test(self) -> tuple[bool, str]:
        """Whether the fence can be relied on here, and what was shown."""
        ability = self._fence.self_test(deadline_s=_SELF_TEST_S, mirror=(self.address, self.port))
        return ability.usable, ability.reason

    def adopt(self, now: float) -> float:
        """Seconds left of a lease that a former run left; 0 where there is none. Fences of other mirrors end."""
        left_s = 0.0
        for address, port, left_ms in self._fence.fenced():
            if (address, port) == (self.address, self.port):
                left_s = max(left_s, left_ms / 1000)
            else:
                self._fence.lift(address, port)
        self.until = now + left_s if left_s else 0.0
        return left_s

    def prepare(self) -> None:
        """Make the empty table beforehand: to raise the fence is then one element, a fraction of a millisecond."""
        with contextlib.suppress(FenceError):  # raising it makes the table too, and tells
            self._fence.assert_table()

    def hold(self, lease_s: float, now: float) -> None:
        """Raise or renew, then end what nydusd still has open to the mirror. Raises FenceError."""
        self._fence.renew(self.address, self.port, round(lease_s * 1000))
        if self.until > now:
            self.counters.renewed += 1
        else:
            self.counters.raised += 1
        self.until = now + lease_s
        self.lift_due = False
        self.destroy()

    def mend(self, now: float) -> None:
        """Bring a fence back that somebody has flushed away, for what is left of its lease. Raises FenceError."""
        if self.until > now and not self._fence.intact():
            self.hold(self.until - now, now)

    def destroy(self) -> None:
        """End nydusd's connections to the mirror. A failure leaves the fence up and is kept as `destroy_error`."""
        if not self._where:
            self.find_nydusd()
        try:
            self.counters.destroyed += self._fence.destroy(self.address, self.port, self._where)
        except FenceError as error:
            self.destroy_error = f"{error.what}: {error.cause}"
        else:
            self.destroy_error = ""

    def find_nydusd(self) -> None:
        """Look where nydusd runs. Done beforehand and again and again, because it takes longer than the fence."""
        self._where = self._cgroups.of_processes(*NYDUSD)

    def lift(self) -> None:
        """Let connections through. A failure is tried again by `retry`; the lease ends by itself all the same."""
        self.count_refused()
        self.until = 0.0
        self.lift_due = True
        self.retry()

    def retry(self) -> None:
        """Lift what could not be lifted before."""
        if not self.lift_due:
            return
        try:
            self._fence.lift(self.address, self.port)
        except PortError:
            return
        self.lift_due = False

    def count_refused(self) -> None:
        """Bring the counter up to date; the table's own begins again whenever somebody flushes the ruleset."""
        try:
            now = self._fence.refused()
        except FenceError:
            return
        self.counters.refused += now - self._seen_refused if now >= self._seen_refused else now
        self._seen_refused = now

    def remove(self) -> None:
        """Leave the node as it would be without us. Raises FenceError."""
        self.until = 0.0
        self._fence.remove_table()
