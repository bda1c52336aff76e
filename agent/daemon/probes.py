"""Probes of the mirror: the ping, the canary through its data path, the sentinel. Each gives the health machine's
events; none judges.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.daemon.http import Answer, Connection, ProbeError, Url
from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Failure,
    LoopLate,
    PingFailed,
    PingOk,
    SentinelClosed,
)
from agent.health.policy import Policy

_STAGGER_S = 0.1
"""A ping that got no answer for this long gets company on a fresh connection: one lost packet must not look like
silence."""
_PINGS = 5
_LATE_S = 0.05
"""A deadline that was noticed this much too late says that the agent was late, not the mirror."""
_P2P_EVERY_S = 300.0
"""A canary that makes Dragonfly create a task is rare; plain ones are forwarded and leave nothing behind."""
_OBJECT_BYTES = 4096
_SENTINEL_RETRY_S = 1.0
_SENTINEL_REST_S = 0.2


def _ping_answer(answer: Answer) -> None:
    if not 200 <= answer.status < 400:  # what nydusd takes for healthy (storage/src/backend/connection.rs)
        raise ProbeError(Failure.STATUS, f"HTTP {answer.status}")


class Pinger:
    """Asks ping_url. A round is answered by the first of up to five staggered requests, or ends at the window."""

    def __init__(self, url: Url, policy: Policy) -> None:
        self._url = url
        self._policy = policy
        self._kept: Connection | None = None

    async def round(self) -> PingOk | PingFailed | LoopLate:
        """One round; never longer than the window (plus our own lateness)."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        end = started + self._policy.window_s
        running = {asyncio.create_task(self._once(self._take()))}
        launched, launch_at, doubted = 1, started + _STAGGER_S, False
        try:
            while True:
                until = min(launch_at, end) if launched < _PINGS else end
                done, running = await asyncio.wait(
                    running, timeout=max(0.0, until - loop.time()), return_when=asyncio.FIRST_COMPLETED
                )
                outcomes = [task.result() for task in done]
                if None in outcomes:
                    return PingOk(started, loop.time() - started)
                hard = next((error for error in outcomes if error is not None and not error.stale), None)
                if hard is not None:
                    return PingFailed(started, hard.failure, hard.detail)
                now = loop.time()
                late_s = now - end
                if late_s >= 0 and (late_s <= _LATE_S or doubted):
                    return self._silence(started, late_s)
                if late_s >= 0:  # we were late, so the mirror gets a little more time, once
                    doubted, end, launch_at = True, now + _STAGGER_S, now
                if not running or now >= launch_at:
                    running.add(asyncio.create_task(self._once(None)))
                    launched, launch_at = launched + 1, now + _STAGGER_S
        finally:
            for task in running:
                task.cancel()

    def close(self) -> None:
        """Give the kept connection up."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _silence(self, started: float, late_s: float) -> PingFailed | LoopLate:
        if late_s > _LATE_S:
            return LoopLate(late_s)
        return PingFailed(started, Failure.SILENT, f"no answer in {self._policy.window_s * 1000:.0f} ms")

    def _take(self) -> Connection | None:
        kept, self._kept = self._kept, None
        return kept

    async def _once(self, kept: Connection | None) -> _Failed | None:
        """None for an answer. A kept connection that broke is no evidence (the mirror may close idle ones)."""
        connection = kept
        try:
            if connection is None:
                connection = await Connection.open(self._url.host, self._url.port)
            if self._url.tls:
                return None  # the daemon carries no TLS: that the port accepts is all it can see
            answer = await connection.get(self._url.path, self._url.authority)
            _ping_answer(answer)
            if answer.keeps and self._kept is None:
                self._kept, connection = connection, None
        except ProbeError as error:
            broke = error.failure in (Failure.RESET, Failure.CLOSED, Failure.SILENT)
            return _Failed(error.failure, error.detail, stale=kept is not None and broke)
        finally:
            if connection is not None:
                connection.close()
        return None


@dataclass(frozen=True, slots=True)
class _Failed:
    failure: Failure
    detail: str
    stale: bool


@dataclass(frozen=True, slots=True)
class CanaryObject:
    """What the endpoint serves at /canary and at /canary/ID: random bytes, new with each start of the agent.

    The id is part of the path, so that Dragonfly's task (made from the URL) never answers with a former run's bytes.
    """

    body: bytes = field(default_factory=lambda: os.urandom(_OBJECT_BYTES))
    id: str = field(default_factory=lambda: os.urandom(8).hex())

    @property
    def path(self) -> str:
        """The path that names this object and no other."""
        return f"/canary/{self.id}"


class Canary:
    """Fetches the canary object from our own endpoint, through the mirror's proxy port in absolute form."""

    def __init__(self, proxy: Url, policy: Policy, served: CanaryObject, port: Callable[[], int | None]) -> None:
        self._proxy = proxy
        self._policy = policy
        self._object = served
        self._port = port
        self._p2p_at = float("-inf")

    async def fetch(self) -> CanaryOk | CanaryFailed | LoopLate | None:
        """One canary; None where our own endpoint does not listen (nothing can be said then)."""
        port = self._port()
        if port is None:
            return None
        loop = asyncio.get_running_loop()
        started = loop.time()
        p2p = started - self._p2p_at >= _P2P_EVERY_S
        if p2p:
            self._p2p_at = started
        window_s = self._policy.canary_window_s
        try:
            async with asyncio.timeout(window_s):
                await self._exchange(f"127.0.0.1:{port}", p2p=p2p)
        except TimeoutError:
            late_s = loop.time() - started - window_s
            if late_s > _LATE_S:
                return LoopLate(late_s)
            return CanaryFailed(started, Failure.SILENT, f"no complete answer in {window_s * 1000:.0f} ms")
        except ProbeError as error:
            return CanaryFailed(started, error.failure, error.detail)
        return CanaryOk(started, loop.time() - started)

    async def _exchange(self, authority: str, *, p2p: bool) -> None:
        path = self._object.path if p2p else "/canary"
        headers = {"Connection": "close"} | ({"X-Dragonfly-Use-P2P": "true"} if p2p else {})
        connection = await Connection.open(self._proxy.host, self._proxy.port)
        try:
            answer = await connection.get(f"http://{authority}{path}", authority, headers)
        finally:
            connection.close()
        if answer.status != 200:
            raise ProbeError(Failure.STATUS, f"HTTP {answer.status} for the canary")
        if answer.body != self._object.body:
            raise ProbeError(Failure.CONTENT, f"{len(answer.body)} bytes of another content than the canary's")


async def watch_sentinel(proxy: Url, post: Callable[[SentinelClosed], None]) -> None:
    """Hold one idle connection to the mirror's proxy port for ever, and tell when the mirror ends it: the kernel does
    so within a millisecond of its death, long before the next ping.
    """
    while True:
        try:
            async with asyncio.timeout(_SENTINEL_RETRY_S):
                connection = await Connection.open(proxy.host, proxy.port)
        except (ProbeError, TimeoutError):
            await asyncio.sleep(_SENTINEL_RETRY_S)
            continue
        try:
            how = await connection.ended()
        finally:
            connection.close()
        post(SentinelClosed(f"the idle connection to {proxy.authority} ended: {how}"))
        await asyncio.sleep(_SENTINEL_REST_S)


def jittered(seconds: float) -> float:
    """A tenth more or less."""
    return seconds * (0.9 + os.urandom(1)[0] / 1280)
