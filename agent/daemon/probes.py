"""Probes of the mirror's life: the ping, the sentinel, and the processes around its listener. Each brings the
failure detector's events; none judges.

A round of a probe is made of several staggered attempts. The first right answer counts, a wrong one too and
at once. Silence counts only when none of them was answered within the window: one lost packet is then not
silence. An answer that comes after its round was given up is told as well: such a mirror is slow, not hung.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from agent.daemon.http_client import Connection, ProbeError, Url
from agent.daemon.settings import Settings
from agent.errors import PortError
from agent.facts.node import Listener
from agent.health.evidence import (
    Failure,
    LoopLate,
    MirrorEnded,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Probe,
    SentinelClosed,
    judge,
)
from agent.ports import ListenerProcesses, SocketTables

ATTEMPTS = 5
_STAGGER_S = 0.1
"""At the least: a request that got no answer for this long gets company on a fresh connection."""
LATE_S = 0.05
"""A deadline that was noticed this much too late says that the agent was late, not the mirror."""
_SENTINEL_RETRY_S = 1.0
_SENTINEL_REST_S = 0.2

Ok = TypeVar("Ok")
Failed = TypeVar("Failed")
Pinged: TypeAlias = PingOk | PingFailed | LoopLate


@dataclass(frozen=True, slots=True)
class Wrong:
    """An attempt that was answered wrongly, or refused. `stale`: no evidence (a kept connection had been
    closed)."""

    failure: Failure
    detail: str
    stale: bool = False


Attempt: TypeAlias = Callable[[int], Coroutine[Any, Any, Wrong | None]]
"""One attempt (its number in the round); None = a right answer. It is cancelled where nobody waits for it any
more."""


def stagger_s(window_s: float, attempts: int = ATTEMPTS) -> float:
    """Between two attempts of a round with this window."""
    return max(_STAGGER_S, window_s / (attempts + 1))


class StaggeredProbe(Generic[Ok, Failed]):
    """Rounds of one kind of probe. Each ends as an event: `ok` (when it began by the loop's time, the
    latency of the first right answer), `failed`, or LoopLate. `late` is given answers that came after their
    window, within `cap_s` of its beginning.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        probe: Probe,
        ok: Callable[[float, float], Ok],
        failed: Callable[[float, Failure, str], Failed],
        attempt: Attempt,
        *,
        attempts: int = ATTEMPTS,
        late: Callable[[Ok], None] | None = None,
        cap_s: float = 0.0,
    ) -> None:
        self._tasks = tasks
        self._probe = probe
        self._ok = ok
        self._failed = failed
        self._attempt = attempt
        self._attempts = attempts
        self._late = late
        self._cap_s = cap_s

    async def round(self, window_s: float) -> Ok | Failed | LoopLate:
        """One round; never longer than the window (plus our own lateness)."""
        now = asyncio.get_running_loop().time
        began, step_s = now(), stagger_s(window_s, self._attempts)
        end, doubted, launched, launch_at = began + window_s, False, 1, began + step_s
        running = {self._begin(0)}
        try:
            while True:
                until = min(launch_at, end) if launched < self._attempts else end
                done, running = await asyncio.wait(
                    running, timeout=max(0.0, until - now()), return_when=asyncio.FIRST_COMPLETED
                )
                event = self._event(done, began, now() - began)
                if event is not None:
                    return event
                late_s = now() - end
                if done:  # stale ones
                    if running:
                        continue
                elif late_s > LATE_S and doubted:
                    return LoopLate(late_s, self._probe)
                elif late_s > LATE_S:  # we were late, so the mirror gets a little more time, once
                    doubted, end = True, now() + _STAGGER_S
                elif late_s >= 0:
                    self._give_up(began, running)
                    running = set()
                    return self._failed(began, Failure.SILENT, f"no answer in {window_s * 1000:.0f} ms")
                elif launched >= self._attempts:
                    continue
                running.add(self._begin(launched))
                launched, launch_at = launched + 1, now() + step_s
        finally:
            for task in running:
                task.cancel()

    def _event(
        self, done: set[asyncio.Task[Wrong | None]], began: float, latency_s: float
    ) -> Ok | Failed | None:
        """What attempts that have ended say of the round; None: nothing yet."""
        results = [task.result() for task in done]
        if None in results:
            return self._ok(began, latency_s)
        wrong = next((one for one in results if one is not None and not one.stale), None)
        return None if wrong is None else self._failed(began, wrong.failure, wrong.detail)

    def _begin(self, number: int) -> asyncio.Task[Wrong | None]:
        return self._tasks.create_task(self._attempt(number), name=f"{self._probe}, attempt {number + 1}")

    def _give_up(self, began: float, running: set[asyncio.Task[Wrong | None]]) -> None:
        """What comes from now on is late. It is still listened to, up to the cap."""
        name = f"{self._probe}, late answers"
        self._tasks.create_task(self._await_late(began, running), name=name)

    async def _await_late(self, began: float, running: set[asyncio.Task[Wrong | None]]) -> None:
        now, late = asyncio.get_running_loop().time, self._late
        while late is not None and running and (left_s := began + self._cap_s - now()) > 0:
            done, running = await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() is None for task in done):
                late(self._ok(began, now() - began))
                break
        for task in running:
            task.cancel()


class Pinger:
    """Asks ping_url. `take` is given answers that come after their round was given up."""

    def __init__(
        self, tasks: asyncio.TaskGroup, url: Url, take: Callable[[PingOk], None], *, cap_s: float
    ) -> None:
        self._url = url
        self._kept: Connection | None = None
        self._probe = StaggeredProbe(
            tasks, Probe.PING, PingOk, PingFailed, self._attempt, late=take, cap_s=cap_s
        )

    async def ping(self, window_s: float) -> Pinged:
        """One round; never longer than the window (plus our own lateness)."""
        return await self._probe.round(window_s)

    def close(self) -> None:
        """Give the kept connection up."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    async def _attempt(self, number: int) -> Wrong | None:
        """The first attempt of a round uses the kept connection. That it broke is no evidence: mirrors may
        close idle ones.
        """
        kept = self._take_kept() if number == 0 else None
        connection = kept
        try:
            if connection is None:
                connection = Connection(self._url.host, self._url.port)
            if await self._ask(connection) and self._kept is None:
                self._kept, connection = connection, None
        except ProbeError as error:
            broke = error.failure in (Failure.RESET, Failure.CLOSED, Failure.SILENT)
            return Wrong(error.failure, error.detail, stale=kept is not None and broke)
        finally:
            if connection is not None:
                connection.close()
        return None

    def _take_kept(self) -> Connection | None:
        kept, self._kept = self._kept, None
        if kept is not None and not kept.idle:
            kept.close()
            return None
        return kept

    async def _ask(self, connection: Connection) -> bool:
        """Whether the connection can be kept. Raises ProbeError."""
        if self._url.tls:  # the daemon carries no TLS: that the port accepts is all it can see
            await connection.connect()
            return False
        answer = await connection.ask(self._url.path, self._url.authority)
        if not 200 <= answer.status < 400:
            # What nydusd takes for healthy (storage/src/backend/connection.rs): it looks at no body.
            raise ProbeError(Failure.STATUS, f"HTTP {answer.status}")
        return answer.keeps and answer.headers["content-length"] == "0"


class Sentinel:
    """Holds one idle connection to the mirror's proxy port for ever, and tells when the mirror ends it: the
    kernel does so within a millisecond of its death, long before the next ping.
    """

    def __init__(self, proxy: Url, take: Callable[[SentinelClosed], None]) -> None:
        self._proxy = proxy
        self._take = take

    async def run(self) -> None:
        """Connect, and again whenever that fails or ends."""
        while True:
            how = await self._hold()
            if how:
                self._take(SentinelClosed(f"the idle connection to {self._proxy.authority} ended: {how}"))
            await asyncio.sleep(_SENTINEL_REST_S if how else _SENTINEL_RETRY_S)

    async def _hold(self) -> str:
        """How a connection that stood has ended, in words; "" where none stood in time."""
        try:
            with closing(Connection(self._proxy.host, self._proxy.port)) as connection:
                async with asyncio.timeout(_SENTINEL_RETRY_S):
                    await connection.connect()
                return await connection.end()
        except (ProbeError, TimeoutError):
            return ""


_AGAIN_S = 60.0
"""Processes that cannot be followed are tried again this much later: their cgroup has to be looked for."""


class MirrorListener:
    """Whose the mirror's listener is, and what becomes of the processes around it. Their end, and their being
    frozen, is seen at once and for certain, where an end of the sentinel may be a mirror's habit and silence
    takes a window.

    What is followed belongs to one listening socket; another one (a restarted mirror) is followed anew.
    """

    def __init__(self, tables: SocketTables, processes: ListenerProcesses, settings: Settings) -> None:
        self._tables = tables
        self._processes = processes
        self._proxy = settings.proxy
        self._allowed = settings.allowed_uids
        self._inode = 0
        self._followed_at = float("-inf")
        self._stopped = ""
        self.owner_at = float("-inf")
        """When the owner was looked for last (monotonic)."""
        self.problem = ""
        """Why the processes are not followed; "" = they are, or nobody listens here."""

    def fileno(self) -> int:
        """Becomes readable when `ended` has something to tell."""
        return self._processes.fileno()

    def owner(self, now: float) -> OwnerSeen:
        """Whose the mirror's port is. From now on the processes around its listener are followed."""
        self.owner_at = now
        try:
            listener = self._find()
        except PortError as error:
            return OwnerSeen(Owner.UNKNOWN, f"{error.what}: {error.cause}")
        self._follow(listener, now)
        if not self._allowed:
            return OwnerSeen(Owner.UNKNOWN, "whose it must be is not known: the configuration is wrong")
        return OwnerSeen(*judge(listener, self._proxy.host, self._proxy.port, self._allowed))

    def ended(self) -> MirrorEnded | None:
        """With each tick, and when the descriptor is readable: what has become of the processes since."""
        seen = self._processes.read()  # also where nobody asks: else the descriptor stays readable
        if not self._inode or self.problem:
            return None
        if seen.ended and not self._listens():
            self._inode = 0
            return MirrorEnded(f"it has ended: {', '.join(seen.ended)}")
        news, self._stopped = seen.stopped and not self._stopped, seen.stopped
        return MirrorEnded(f"it is stopped: {seen.stopped}") if news else None

    def _follow(self, listener: Listener | None, now: float) -> None:
        inode = listener.inode if listener is not None else 0
        if inode == self._inode and not (self.problem and now - self._followed_at >= _AGAIN_S):
            return
        self._inode, self._followed_at, self._stopped = inode, now, ""
        self.problem = self._processes.follow(listener) if listener is not None else ""

    def _listens(self) -> bool:
        """Whether the socket is still there: then another process of its cgroup has ended (a probe that
        kubelet runs in the mirror's container, say).
        """
        try:
            listener = self._find()
        except PortError:
            return False
        return listener is not None and listener.inode == self._inode

    def _find(self) -> Listener | None:
        return self._tables.find_listener(self._proxy.host, self._proxy.port)
