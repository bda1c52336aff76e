"""The canary: a request through the mirror's data path whose status, length and content are checked.

Its object is served by this agent on the node's loopback. A mirror that cannot reach the node's loopback (elsewhere,
or in a network of its own) is asked for the /v2/ of a registry in use instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from agent.daemon.hedge import Hedge, Late, Outcome, Right, Told, Wrong
from agent.daemon.http import CLOSE, Answer, Connection, Headers, ProbeError, Url
from agent.daemon.origins import Origin
from agent.daemon.turning import Loop
from agent.health.evidence import CanaryFailed, CanaryOk, Failure, LoopLate, Probe

_P2P_EVERY_S = 300.0
"""A canary that makes Dragonfly create a task is rare; plain ones are forwarded and leave nothing behind."""
_OBJECT_BYTES = 4096
_REGISTRY_ATTEMPTS = 2
_BODY_S = 0.5
"""Between the first and the last byte of a canary, which fits into one segment. A mirror that takes longer is not slow
to answer, which is borne: at 8 KB a second no read of a container ends in time."""

Result: TypeAlias = CanaryOk | CanaryFailed | LoopLate


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

    def __init__(
        self,
        loop: Loop,
        proxy: Url,
        served: CanaryObject,
        port: Callable[[], int | None],
        late: Callable[[CanaryOk], None],
        *,
        cap_s: float,
    ) -> None:
        self._loop = loop
        self._proxy = proxy
        self._object = served
        self._port = port
        self._p2p = False
        self._p2p_at = float("-inf")
        self._hedge = Hedge(
            loop, self._once, lambda started, latency_s: late(CanaryOk(started, latency_s)), cap_s=cap_s
        )

    def begin(self, window_s: float, ended: Callable[[Result | None], None]) -> None:
        """One round; None where our own endpoint does not listen (nothing can be said then)."""
        if self._port() is None:
            ended(None)
            return
        started = self._loop.time()
        # All attempts of a round take the same path, or a plain one would hide that the task path hangs.
        self._p2p = started - self._p2p_at >= _P2P_EVERY_S
        if self._p2p:
            self._p2p_at = started
        self._hedge.begin(window_s, lambda outcome: ended(_event(started, outcome)))

    def close(self) -> None:
        """Wait for no late answer any more."""
        self._hedge.close()

    def _once(self, _number: int, told: Told) -> Callable[[], None]:
        authority = f"127.0.0.1:{self._port()}"
        path = self._object.path if self._p2p else "/canary"
        headers = (("X-Dragonfly-Use-P2P", "true"),) if self._p2p else ()
        asked = _through(
            self._loop, self._proxy, f"http://{authority}{path}", authority, headers,
            lambda answer: told(self._judged(answer)),
        )  # fmt: skip
        return asked.close

    def _judged(self, answer: Answer | ProbeError) -> Wrong | None:
        if isinstance(answer, ProbeError):
            return Wrong(answer.failure, answer.detail)
        if answer.status != 200:
            return Wrong(Failure.STATUS, f"HTTP {answer.status} for the canary")
        if answer.body != self._object.body:
            return Wrong(Failure.CONTENT, f"{len(answer.body)} bytes of another content than the canary's")
        return None


class RegistryCanary:
    """Asks a registry for /v2/ through the mirror. dfdaemon forwards https URLs in absolute form too, so no TLS is
    needed here; what another proxy makes of them counts only once it has answered rightly (see Session).

    `ask` asks the registry without the mirror and tells the status (0: its port accepts, more is not known; None: it
    does not answer).
    """

    def __init__(self, loop: Loop, proxy: Url, ask: Callable[[Origin, Callable[[int | None], None]], None]) -> None:
        self._loop = loop
        self._proxy = proxy
        self._ask = ask
        self._origin: Origin | None = None
        self._status = 0
        self.answers = False
        """Whether the registry itself answered, or stood, when it was asked last without the mirror."""
        self._hedge = Hedge(loop, self._once, lambda *_: None, cap_s=0.0, attempts=_REGISTRY_ATTEMPTS)

    def begin(self, origin: Origin, window_s: float, ended: Callable[[Result | None], None]) -> None:
        """One round; None where the failure may be the registry's own."""
        self._origin, self._status = origin, 0
        started = self._loop.time()

        def over(outcome: Outcome) -> None:
            event = _event(started, outcome)
            if not isinstance(event, CanaryFailed) or event.failure is Failure.REFUSED:  # that is the mirror's alone
                ended(event)
            else:
                self._ask(origin, lambda direct: ended(self._compared(event, direct)))

        self._hedge.begin(window_s, over)

    def close(self) -> None:
        """Wait for no answer any more."""
        self._hedge.close()

    def _compared(self, event: CanaryFailed, direct: int | None) -> CanaryFailed | None:
        self.answers = direct is not None
        same = event.failure is Failure.STATUS and direct in (0, self._status)
        return None if direct is None or same else event

    def _once(self, _number: int, told: Told) -> Callable[[], None]:
        origin = self._origin
        assert origin is not None
        url = f"{'https' if origin.tls else 'http'}://{origin.name}/v2/"
        asked = _through(self._loop, self._proxy, url, origin.name, (), lambda answer: told(self._judged(answer, url)))
        return asked.close

    def _judged(self, answer: Answer | ProbeError, url: str) -> Wrong | None:
        if isinstance(answer, ProbeError):
            return Wrong(answer.failure, answer.detail)
        if not _of_a_registry(answer):
            self._status = answer.status
            return Wrong(Failure.STATUS, f"HTTP {answer.status} for {url}, which is no registry's answer")
        return None


def _of_a_registry(answer: Answer) -> bool:
    """What /v2/ gives (OCI distribution specification): 200, or 401 with a challenge."""
    marks = ("docker-distribution-api-version", "www-authenticate")
    return answer.status == 200 or (answer.status == 401 and any(mark in answer.headers for mark in marks))


def _through(
    loop: Loop, proxy: Url, url: str, authority: str, headers: Headers,
    told: Callable[[Answer | ProbeError], None],
) -> Connection:  # fmt: skip
    """Ask the mirror; `told` hears what it gives, and a body that trickles is silence. The connection, which ends with
    the answer; to close it is to give it up. Raises ProbeError where it fails at once.
    """
    now = loop.time
    body, begun = bytearray(), 0.0
    connection = Connection.begin(loop, proxy.host, proxy.port)

    def take(piece: bytes) -> None:
        nonlocal begun
        begun = begun or now()
        body.extend(piece)

    def answered(answer: Answer | ProbeError) -> None:
        connection.close()
        took_s = now() - begun if begun else 0.0
        if isinstance(answer, ProbeError):
            told(answer)
        elif took_s > _BODY_S:
            text = f"{len(body)} bytes trickled in during {took_s * 1000:.0f} ms"
            told(ProbeError(Failure.SILENT, text))
        else:
            told(Answer(answer.status, answer.headers, bytes(body)))

    try:
        connection.ask(url, authority, (*CLOSE, *headers), take, answered)
    except ProbeError:
        connection.close()
        raise
    return connection


def _event(started: float, outcome: Outcome) -> Result:
    match outcome:
        case Right(latency_s):
            return CanaryOk(started, latency_s)
        case Wrong(failure, detail):
            return CanaryFailed(started, failure, detail)
        case Late(late_s):
            return LoopLate(late_s, Probe.CANARY)
        case _:
            assert_never(outcome)
