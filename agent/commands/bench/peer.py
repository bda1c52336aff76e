"""The dfdaemon of this node as a bench needs it: what it has brought and from where, and that it forgets an
image; and what all programs of the node have counted, before and after one start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from agent.bench.cases import Counted
from agent.commands.bench.layers import Layers
from agent.errors import AgentError, HttpError
from agent.ports import BenchPorts, PeerTask

_CALL_S = 5.0
_TRAFFIC = "dragonfly_client_download_traffic"
_STARTED = "process_start_time_seconds"
_METRICS_CAP = 1 << 20
_QUIET_S = 1.5
_SETTLE_S = 120.0
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that dfdaemon has brought since its start, by where they came from."""

    source: int = 0
    remote: int = 0
    local: int = 0
    started: str = ""
    """When its process began, in its own words; "": it does not tell."""

    def since(self, before: Traffic) -> Traffic | None:
        """What was brought meanwhile; None: it was started anew, and what it had counted until then is
        lost.
        """
        moved = Traffic(self.source - before.source, self.remote - before.remote, self.local - before.local)
        anew = self.started != before.started or min(moved.source, moved.remote, moved.local) < 0
        return None if anew else moved


class BenchPeer:
    """dfdaemon by its metrics and its unix socket."""

    def __init__(self, ports: BenchPorts, metrics_url: str, socket: str) -> None:
        self._ports, self._metrics_url, self._socket = ports, metrics_url, socket

    def traffic(self) -> Traffic | None:
        """None: it does not tell."""
        try:
            answer = self._ports.http.get(self._metrics_url, deadline_s=_CALL_S, body_cap=_METRICS_CAP)
        except HttpError:
            return None
        return traffic_of(answer.body.decode(errors="replace")) if answer.status == 200 else None

    def settle(self, stopped: Callable[[], bool]) -> None:
        """Wait until it brings nothing more: it fetches ahead what was not asked for yet. Gives up after two
        minutes (others may read all the time), and at once where somebody stopped us.
        """
        clock = self._ports.clock
        seen, deadline = self.traffic(), clock.monotonic() + _SETTLE_S
        quiet_since = clock.monotonic()
        while clock.monotonic() - quiet_since < _QUIET_S and clock.monotonic() < deadline and not stopped():
            clock.sleep(_POLL_S)
            now = self.traffic()
            if now != seen:
                seen, quiet_since = now, clock.monotonic()

    def cannot_forget(self, layers: Layers) -> str:
        """Why the tasks of an image that was just read through it cannot be removed; "" = they can."""
        try:
            found = self._tasks(layers)
        except HttpError as error:
            return f"dfdaemon's tasks of the image cannot be removed: {error.what}: {error.cause}"
        return (
            "" if found else "none of dfdaemon's tasks names a blob of the image, so they cannot be removed"
        )

    def discard(self, layers: Layers) -> None:
        """Remove the tasks of an image's blobs from this node.

        Raises HttpError, AgentError NNA1701 where one stays.
        """
        for task in self._tasks(layers):
            self._ports.peer.remove(self._socket, task.id, deadline_s=_CALL_S)
        left = self._tasks(layers)
        if left:
            raise AgentError(
                "NNA1701", "dfdaemon keeps tasks of the image", cause=f"{len(left)} of them are still there"
            )

    def _tasks(self, layers: Layers) -> tuple[PeerTask, ...]:
        """Those that are named by a blob's digest, or whose answer was: a registry sends it in
        Docker-Content-Digest. Raises HttpError.
        """
        digests = {digest.removeprefix("sha256:") for digest in layers.digests}
        return tuple(
            task
            for task in self._ports.peer.tasks(self._socket, deadline_s=_CALL_S)
            if task.id in digests or any(digest in value for digest in digests for value in task.headers)
        )


def traffic_of(exposition: str) -> Traffic:
    """The counters of a Prometheus text; 0 before the first increment (dragonfly-client-metric,
    download_traffic).
    """
    found, started = dict.fromkeys(("BACK_TO_SOURCE", "REMOTE_PEER", "LOCAL_PEER"), 0), ""
    for line in exposition.splitlines():
        name, _, value = line.rpartition(" ")
        if name == _STARTED:
            started = value
        label = name.removeprefix(f'{_TRAFFIC}{{type="').removesuffix('"}')
        if name.startswith(f"{_TRAFFIC}{{") and label in found:
            found[label] = int(float(value))
    return Traffic(found["BACK_TO_SOURCE"], found["REMOTE_PEER"], found["LOCAL_PEER"], started)


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
        """What one run moved; the figures that cannot be told are None."""
        fetched, traffic = None, None
        if self.fetched is not None and before.fetched is not None:
            fetched = _moved(self.fetched, before.fetched)
        if self.traffic is not None and before.traffic is not None:
            traffic = self.traffic.since(before.traffic)
        gone = before.received.keys() - self.received.keys()
        received = None if gone else _moved(self.received, before.received)
        told = Counted(pulled, fetched, received=received)
        if traffic is None:
            return told
        return replace(told, source=traffic.source, remote=traffic.remote, local=traffic.local)


def _moved(now: Mapping[str, int], before: Mapping[str, int]) -> int | None:
    """The sum of what each counted meanwhile, those that are new from 0; None: one of them has begun anew."""
    moved = [count - before.get(name, 0) for name, count in now.items()]
    return None if min(moved, default=0) < 0 else sum(moved)
