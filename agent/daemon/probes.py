"""Probes of the mirror's life: the ping, and the sentinel. Each gives the health machine's events; none judges."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from agent.daemon.hedge import Hedge, Late, Right, Wrong
from agent.daemon.http import Answer, Connection, ProbeError, Url
from agent.health.evidence import Failure, LoopLate, PingFailed, PingOk, Probe, SentinelClosed

_SENTINEL_RETRY_S = 1.0
_SENTINEL_REST_S = 0.2


def _ping_answer(answer: Answer) -> None:
    if not 200 <= answer.status < 400:  # what nydusd takes for healthy (storage/src/backend/connection.rs)
        raise ProbeError(Failure.STATUS, f"HTTP {answer.status}")


class Pinger:
    """Asks ping_url. `late` is told of answers that come after their round was given up."""

    def __init__(self, url: Url, late: Callable[[PingOk], None], *, cap_s: float) -> None:
        self._url = url
        self._kept: Connection | None = None
        self._hedge = Hedge(self._once, lambda started, latency_s: late(PingOk(started, latency_s)), cap_s=cap_s)

    async def round(self, window_s: float) -> PingOk | PingFailed | LoopLate:
        """One round; never longer than the window (plus our own lateness)."""
        started = asyncio.get_running_loop().time()
        outcome = await self._hedge.round(window_s)
        match outcome:
            case Right(latency_s):
                return PingOk(started, latency_s)
            case Wrong(failure, detail):
                return PingFailed(started, failure, detail)
            case Late(late_s):
                return LoopLate(late_s, Probe.PING)

    def close(self) -> None:
        """Give the kept connection up, and what is still waited for."""
        self._hedge.close()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _once(self, number: int) -> Wrong | None:
        """The first attempt of a round uses the kept connection. That it broke is no evidence: mirrors may close idle
        ones.
        """
        kept = None
        if number == 0:
            kept, self._kept = self._kept, None
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
            return Wrong(error.failure, error.detail, stale=kept is not None and broke)
        finally:
            if connection is not None:
                connection.close()
        return None


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
