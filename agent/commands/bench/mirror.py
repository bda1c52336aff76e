"""The mirror of this node as a bench needs it: what dfdaemon has brought and from where, that it forgets an
image, what all programs of the node have counted before and after one start; and the route while it
measures (`route pin origin` for short whiles, `route auto` after it).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from agent.bench.cases import Counted
from agent.commands import route
from agent.commands.bench.images import Layers
from agent.commands.context import Context
from agent.commands.state.picture import Agent, Picture, take
from agent.console import Console, Format
from agent.documents.status import DaemonStatus
from agent.errors import AgentError, Exit, HttpError
from agent.outside_json import samples
from agent.ports import BenchPorts, Clock, PeerTask

_CALL_S = 5.0
_TRAFFIC = "dragonfly_client_download_traffic"
_KINDS = ("BACK_TO_SOURCE", "REMOTE_PEER", "LOCAL_PEER")
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


def traffic_of(page: str) -> Traffic:
    """The counters of its page; 0 before the first increment (dragonfly-client-metric, download_traffic)."""
    told = {(one.name, one.labels): one.value for one in samples(page)}
    source, remote, local = (int(told.get((_TRAFFIC, f'type="{kind}"'), 0)) for kind in _KINDS)
    return Traffic(source, remote, local, str(told.get((_STARTED, ""), "")))


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


_WAIT_S = 10
_PIN_POLL_S = 0.25
REASON = "nydus-agent bench measures without Dragonfly"


class Lever:
    """Pins that the bench sets end by themselves; one that was there before is left alone."""

    def __init__(self, context: Context, clock: Clock, stopped: Callable[[], bool]) -> None:
        self._context, self._clock, self._stopped = context, clock, stopped
        self._quiet = replace(context, console=Console(io.StringIO(), io.StringIO(), Format.JSON))
        self._ours = False

    def origin(self, seconds: int) -> str:
        """Reads of the whole node go to the origin for at most so long; "" or why they do not."""
        held = take(self._context, self._clock.now()).valid_pin
        if held is not None and not self._ours:
            return "" if held.route == "origin" else f"the route is pinned to the {held.route}"
        wanted = argparse.Namespace(
            action="pin", route="origin", duration=seconds, reason=REASON, wait=_WAIT_S
        )
        try:
            self._ours = True
            done = route.run(wanted, self._quiet)
        except AgentError as error:
            return f"{error.what}: {error.cause}"
        return "" if done is Exit.OK else "the agent does not run, so nothing moves the reads"

    def mirror(self, seconds: float) -> str:
        """The agent judges again, and has so long to go back to the mirror, or until somebody stops us; "" or
        why reads do not go there.
        """
        if problem := self.release():
            return problem
        deadline = self._clock.monotonic() + seconds
        while True:
            picture = take(self._context, self._clock.now())
            problem = _elsewhere(picture)
            late = self._clock.monotonic() > deadline
            if not problem or late or picture.valid_pin is not None or self._stopped():
                return problem
            self._clock.sleep(_PIN_POLL_S)

    def release(self) -> str:
        """End our own pin, where there is one; "" or why it could not be told."""
        if not self._ours:
            return ""
        try:
            route.run(argparse.Namespace(action="auto", wait=_WAIT_S), self._quiet)
        except AgentError as error:
            return f"{error.what}: {error.cause}"
        self._ours = False
        return ""


def _elsewhere(picture: Picture) -> str:
    """Why reads do not go to the mirror; "" = they do, or nothing of ours moves them."""
    daemon = picture.daemon
    if picture.agent is not Agent.RUNNING or not isinstance(daemon, DaemonStatus) or daemon.mode != "fence":
        return ""
    return "" if daemon.route == "mirror" else f"reads go to the {daemon.route}: {daemon.route_reason}"
