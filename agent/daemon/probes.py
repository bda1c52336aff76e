"""Probes of the mirror's life: the ping, and the sentinel. Each gives the health machine's events; none judges."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias, assert_never

from agent.daemon.hedge import Hedge, Late, Outcome, Right, Told, Wrong
from agent.daemon.http import Answer, Connection, ProbeError, Url
from agent.daemon.turning import Loop, Timer
from agent.health.evidence import Failure, LoopLate, PingFailed, PingOk, Probe, SentinelClosed

_SENTINEL_RETRY_S = 1.0
_SENTINEL_REST_S = 0.2

Pinged: TypeAlias = PingOk | PingFailed | LoopLate


class Pinger:
    """Asks ping_url. `late` is told of answers that come after their round was given up."""

    def __init__(self, loop: Loop, url: Url, late: Callable[[PingOk], None], *, cap_s: float) -> None:
        self._loop = loop
        self._url = url
        self._authority = url.authority
        self._kept: Connection | None = None
        self._hedge = Hedge(loop, self._once, lambda started, latency_s: late(PingOk(started, latency_s)), cap_s=cap_s)

    def begin(self, window_s: float, ended: Callable[[Pinged], None]) -> None:
        """One round; never longer than the window (plus our own lateness)."""
        started = self._loop.time()
        self._hedge.begin(window_s, lambda outcome: ended(_event(started, outcome)))

    def close(self) -> None:
        """Give the kept connection up, and what is still waited for."""
        self._hedge.close()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _once(self, number: int, told: Told) -> Callable[[], None]:
        """The first attempt of a round uses the kept connection. That it broke is no evidence: mirrors may close idle
        ones.
        """
        kept = self._kept if number == 0 else None
        if kept is not None:
            self._kept = None
            try:
                return self._ask(kept, told, kept=True)
            except ProbeError:
                pass  # as good as closed
        return self._ask(Connection.begin(self._loop, self._url.host, self._url.port), told)

    def _ask(self, connection: Connection, told: Told, *, kept: bool = False) -> Callable[[], None]:
        def answered(answer: Answer | ProbeError) -> None:
            if isinstance(answer, Answer) and answer.keeps and connection.usable and self._kept is None:
                self._kept = connection
            else:
                connection.close()
            told(_judged(answer, kept=kept))

        def stands(error: ProbeError | None) -> None:
            connection.close()
            told(None if error is None else Wrong(error.failure, error.detail))

        try:
            if self._url.tls:
                connection.stand(stands)  # the daemon carries no TLS: that the port accepts is all it can see
            else:
                connection.ask(self._url.path, self._authority, (), _ignored, answered)
        except ProbeError:
            connection.close()
            raise
        return connection.close


def _ignored(_piece: bytes) -> None:
    """A ping's body says nothing."""


def _judged(answer: Answer | ProbeError, *, kept: bool) -> Wrong | None:
    if isinstance(answer, ProbeError):
        broke = answer.failure in (Failure.RESET, Failure.CLOSED, Failure.SILENT)
        return Wrong(answer.failure, answer.detail, stale=kept and broke)
    if not 200 <= answer.status < 400:  # what nydusd takes for healthy (storage/src/backend/connection.rs)
        return Wrong(Failure.STATUS, f"HTTP {answer.status}")
    return None


def _event(started: float, outcome: Outcome) -> Pinged:
    match outcome:
        case Right(latency_s):
            return PingOk(started, latency_s)
        case Wrong(failure, detail):
            return PingFailed(started, failure, detail)
        case Late(late_s):
            return LoopLate(late_s, Probe.PING)
        case _:
            assert_never(outcome)


class Sentinel:
    """Holds one idle connection to the mirror's proxy port for ever, and tells when the mirror ends it: the kernel does
    so within a millisecond of its death, long before the next ping.
    """

    def __init__(self, loop: Loop, proxy: Url, post: Callable[[SentinelClosed], None]) -> None:
        self._loop = loop
        self._proxy = proxy
        self._post = post
        self._connection: Connection | None = None
        self._timer: Timer | None = None
        """When a connection that does not stand yet is given up, or when the next one is begun."""

    def begin(self) -> None:
        """Connect, and again whenever that fails or ends."""
        self._timer = self._loop.call_later(_SENTINEL_RETRY_S, self._fails)
        try:
            self._connection = Connection.begin(self._loop, self._proxy.host, self._proxy.port)
        except ProbeError:
            self._fails()
        else:
            self._connection.stand(self._stands)

    def close(self) -> None:
        """Hold it no longer."""
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _stands(self, error: ProbeError | None) -> None:
        if error is not None or self._connection is None:
            self._fails()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._connection.watch(self._ended)

    def _fails(self) -> None:
        self._again_in(_SENTINEL_RETRY_S)

    def _ended(self, how: str) -> None:
        self._again_in(_SENTINEL_REST_S)
        self._post(SentinelClosed(f"the idle connection to {self._proxy.authority} ended: {how}"))

    def _again_in(self, seconds: float) -> None:
        self.close()
        self._timer = self._loop.call_later(seconds, self.begin)


def jittered(seconds: float) -> float:
    """A tenth more or less."""
    return seconds * (0.9 + os.urandom(1)[0] / 1280)
