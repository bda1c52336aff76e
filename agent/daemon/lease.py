"""The fence around one mirror, held by leases: what the failure detector asks of it is carried out and
counted here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from agent.errors import FenceError, PortError
from agent.facts.node import Unknown
from agent.ports import Cgroups, Fence

NYDUSD = ("nydusd*", "containerd-nydu*")
"""Short names in /proc/PID/comm (15 bytes): a nydusd may be called nydusd-2.4.4, and the snapshotter's cgroup
is that of every nydusd which it starts (KillMode=process, its own cgroup option off), whatever that one is
called."""
CONTAINERD = ("containerd",)
"""Exactly: a containerd-shim of a pod fetches nothing."""
PATIENCE_S = 30.0
"""How long an answer to containerd may bring no byte while the mirror is fenced. A tenth of what containerd
itself waits (image_pull_progress_timeout, 5 min), and long enough for a mirror that thaws: ending a transfer
fails its pull, which the kubelet tries again; sparing one that hangs costs its pod these seconds."""
_SELF_TEST_S, _SELF_TEST_AGAIN_S = 1.0, 60.0
"""How long it may take, and when one that failed is tried again."""
_PREPARE_AGAIN_S = 1.0
"""Between two looks at the table while nothing is fenced; a look costs as much as a ping."""
_FIND_CLIENTS_S, _FIND_CLIENTS_FENCED_S = 30.0, 5.0
"""Between two looks for the cgroups of nydusd and containerd, which cost 7 ms where there are a thousand
processes."""


@dataclass(slots=True)
class FenceCounters:
    """Since the daemon's start, over reloads too."""

    raised: int = 0
    renewed: int = 0
    destroyed: int = 0
    refused: int = 0
    released_waiting: int = 0
    """containerd's connections that were destroyed because they waited for an answer."""
    released_stalled: int = 0
    """... and because nothing had come for PATIENCE_S."""
    spared: int = 0
    """Not a sum: containerd's connections that the last look left, 0 while nothing is fenced."""


class FenceLease:
    """The fence around one mirror. Calls take a few milliseconds; they raise FenceError where the fence is
    not up."""

    def __init__(
        self, fence: Fence, cgroups: Cgroups, mirror: tuple[str, int], counters: FenceCounters | None = None
    ) -> None:
        self._fence = fence
        self._cgroups = cgroups
        self._nydusd: tuple[str, ...] = ()
        self._containerd: tuple[str, ...] = ()
        self._prepared = False
        self._prepare_at = self._found_at = self._tested_at = 0.0
        self._seen_refused = 0
        self.address, self.port = mirror
        self.counters = counters if counters is not None else FenceCounters()
        self.until = 0.0
        """When the lease ends (monotonic); 0: the fence is not up."""
        self.destroy_error = ""
        """Why connections could not be destroyed the last time, where they could not."""
        self.lift_due = False
        self.readers = 0
        """How many nydusds ran when that was looked at last."""
        self.self_test = "not-run"
        """Or "ok", "failed"."""
        self.self_test_reason = ""

    def test(self, now: float) -> None:
        """Whether the fence can be relied on here is tested once; a test that failed is repeated each
        minute.
        """
        again = self.self_test == "failed" and now - self._tested_at >= _SELF_TEST_AGAIN_S
        if self.self_test == "not-run" or again:
            self._tested_at = now
            ability = self._fence.self_test(deadline_s=_SELF_TEST_S, mirror=(self.address, self.port))
            self.self_test_reason = ability.reason
            if not isinstance(ability, Unknown):  # else that is tried with the next look
                self.self_test = "ok" if ability.usable else "failed"

    def adopt(self, now: float) -> float:
        """Seconds left of a lease that a former run left; 0 where there is none.

        Fences of other mirrors end.
        """
        left_s = 0.0
        for address, port, left_ms in self._fence.fenced():
            if (address, port) == (self.address, self.port):
                left_s = max(left_s, left_ms / 1000)
            else:
                self._fence.lift(address, port)
        self.until = now + left_s if left_s else 0.0
        return left_s

    def prepare(self) -> None:
        """Make the empty table beforehand: to raise the fence is then one element, a fraction of a
        millisecond."""
        self._prepared = True
        with contextlib.suppress(FenceError):  # raising it makes the table too, and tells
            self._fence.assert_table()

    def raise_(self, lease_s: float, now: float) -> None:
        """Raise the fence, or renew its lease. Then end what nydusd still has open to the mirror, and what of
        containerd's is no use any more. Raises FenceError.
        """
        self._fence.renew(self.address, self.port, round(lease_s * 1000))
        if self.until > now:
            self.counters.renewed += 1
        else:
            self.counters.raised += 1
        self.until = now + lease_s
        self.lift_due = False
        self.end_connections()

    def mend(self, now: float) -> None:
        """Bring back what somebody has flushed away: a fence that is up, for what is left of its lease
        (raises FenceError); else the empty table.
        """
        if self.until > now:
            if not self._stands():
                self.raise_(self.until - now, now)
        elif self._prepared and now >= self._prepare_at:
            self._prepare_at = now + _PREPARE_AGAIN_S
            with contextlib.suppress(FenceError):
                if not self._fence.intact():
                    self.prepare()

    def maintain(self, now: float, *, fenced: bool) -> None:
        """Once a second: what could not be lifted, the count of refusals, and where the mirror's clients
        run.
        """
        self.retry()
        if fenced:
            self.count_refused()
        if now - self._found_at >= (_FIND_CLIENTS_FENCED_S if fenced else _FIND_CLIENTS_S):
            self._found_at = now
            self.find_clients()

    def _stands(self) -> bool:
        try:
            return self._fence.stands(self.address, self.port)
        except FenceError:
            return False  # raising it again mends what can be mended, and tells what cannot

    def end_connections(self) -> None:
        """nydusd's at once, containerd's by what each is doing. A failure leaves the fence up and is kept as
        `destroy_error`.
        """
        counters = self.counters
        try:
            if not self._nydusd and not self._containerd:
                self._find_clients()
            ended = self._fence.release(
                self.address, self.port, self._containerd, PATIENCE_S, at_once=self._nydusd
            )
        except FenceError as error:
            self.destroy_error = f"{error.what}: {error.cause}"
            return
        self.destroy_error = ""
        counters.destroyed += ended.at_once
        counters.released_waiting += ended.waiting
        counters.released_stalled += ended.stalled
        counters.spared = ended.spared

    def find_clients(self) -> None:
        """Look where nydusd and containerd run. Done beforehand and again and again, because it takes longer
        than the fence. A cgroup that they share counts as nydusd's: a pull can be tried again, a container's
        read not. What was found before stays where the look fails.
        """
        with contextlib.suppress(FenceError):
            self._find_clients()

    def _find_clients(self) -> None:
        found = self._cgroups.of_processes(*NYDUSD, *CONTAINERD)
        self._nydusd = tuple(sorted({path for pattern in NYDUSD for path in found[pattern]}))
        programs, snapshotters = (found[pattern] for pattern in NYDUSD)
        # Only beside the snapshotter: a user's program may have any name.
        self.readers = sum(count for path, count in programs.items() if path in snapshotters)
        self._containerd = tuple(path for pattern in CONTAINERD for path in found[pattern])

    def lift(self) -> None:
        """Let connections through. A failure is tried again by `retry`; the lease ends by itself all the
        same."""
        self.count_refused()
        self.until = 0.0
        self.counters.spared = 0
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
        """Bring the counter up to date; the table's own begins again whenever somebody flushes the
        ruleset.
        """
        try:
            now = self._fence.refused()
        except FenceError:
            return
        self.counters.refused += now - self._seen_refused if now >= self._seen_refused else now
        self._seen_refused = now

    def remove(self) -> None:
        """Leave the node as it would be without us. Raises FenceError."""
        self.until = 0.0
        self._prepared = False
        self._fence.remove_table()
