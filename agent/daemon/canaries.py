"""The canary: a request through the mirror's data path whose status, length and content are checked.

Its object is served by this agent on the node's loopback. A mirror that cannot reach the node's loopback
(elsewhere, or in a network of its own) is asked for the /v2/ of a registry in use instead.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from agent.daemon.http_client import CLOSE, Answer, Connection, Headers, ProbeError, Url
from agent.daemon.origins import Origins, of_a_registry
from agent.daemon.probes import LATE_S, StaggeredProbe, Wrong
from agent.daemon.settings import Origin
from agent.daemon.tasks import jittered
from agent.health.evidence import CanaryFailed, CanaryOk, Failure, LoopLate, Owner, Probe
from agent.health.policy import Policy
from agent.health.state import HealthState, State, canary_window_s

if TYPE_CHECKING:
    from agent.daemon.session import Session

_TASK_EVERY_S = 300.0
"""A canary that makes Dragonfly create a task is rare; plain ones are forwarded and leave nothing behind."""
_OBJECT_BYTES = 4096
_REGISTRY_ATTEMPTS = 2
_BODY_S = 0.5
"""Between the first and the last byte of a canary, which fits into one segment. A mirror that takes longer is
not slow to answer, which is borne: at 8 KB a second no read of a container ends in time."""
_WAY_BACK = (Failure.SILENT, Failure.CLOSED, Failure.RESET, Failure.STATUS)
"""What a mirror that cannot reach our endpoint makes of a canary."""
_DIRECT_S = 0.5
_LOOPBACK_TRIES = 5
"""Canaries from the node's loopback that may fail before a registry is asked instead; then seldom more."""
_LOOPBACK_AGAIN_S = 60.0
REGISTRY_S, _REGISTRY_WORRIED_S, _REGISTRY_IDLE_S = 60.0, 10.0, 300.0
"""Between two canaries that ask a registry: many nodes ask the same one. While the mirror is under suspicion
or down; and where no registry has ever answered through it."""
_REGISTRY_ASKED_S = 1.0
"""Between two that the detector asks for: a suspicion asks for one after the other, and a registry must not
pay."""

CanaryResult: TypeAlias = CanaryOk | CanaryFailed | LoopLate


@dataclass(slots=True)
class CanaryObject:
    """What the endpoint serves at /canary and at /canary/ID: random bytes, new with each start of the agent.

    The id is part of the path, so that Dragonfly's task (made from the URL) never answers with a former run's
    bytes.
    """

    body: bytes = field(default_factory=lambda: os.urandom(_OBJECT_BYTES))
    id: str = field(default_factory=lambda: os.urandom(8).hex())
    port: int | None = None
    """Where the endpoint listens now; None: it does not."""

    @property
    def path(self) -> str:
        """The path that names this object and no other."""
        return f"/canary/{self.id}"


class LoopbackCanary:
    """Fetches the canary object from our own endpoint, through the mirror's proxy port in absolute form.
    `take` is given answers that come after their round was given up.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        proxy: Url,
        served: CanaryObject,
        take: Callable[[CanaryOk], None],
        *,
        cap_s: float,
    ) -> None:
        self._proxy = proxy
        self._served = served
        self._through_task = False
        self._task_at = float("-inf")
        self._probe = StaggeredProbe(
            tasks, Probe.CANARY, CanaryOk, CanaryFailed, self._attempt, late=take, cap_s=cap_s
        )

    async def fetch(self, window_s: float) -> CanaryResult | None:
        """One round; None where our own endpoint does not listen (nothing can be said then)."""
        if self._served.port is None:
            return None
        began = asyncio.get_running_loop().time()
        # All attempts of a round take the same path, or a plain one would hide that the task path hangs.
        self._through_task = began - self._task_at >= _TASK_EVERY_S
        if self._through_task:
            self._task_at = began
        result = await self._probe.round(window_s)
        if isinstance(result, CanaryFailed) and result.failure in _WAY_BACK and not await self._serves():
            return replace(result, failure=Failure.WANT, detail="canaries cannot be fetched from the agent")
        return result

    async def _serves(self) -> bool:
        """Whether our endpoint is reached without the mirror: a local user may hold all its room, or all
        ports from which it could be asked."""
        authority, now = f"127.0.0.1:{self._served.port}", asyncio.get_running_loop().time
        began = now()
        with suppress(ProbeError, TimeoutError):
            async with asyncio.timeout(_DIRECT_S):
                with closing(Connection("127.0.0.1", self._served.port or 0)) as connection:
                    return (await connection.ask("/canary", authority, CLOSE)).status == 200
        # Where this process was late, that says nothing; the round counts as it came.
        return now() - began > _DIRECT_S + LATE_S

    async def _attempt(self, _number: int) -> Wrong | None:
        authority = f"127.0.0.1:{self._served.port}"
        path = self._served.path if self._through_task else "/canary"
        headers = (("X-Dragonfly-Use-P2P", "true"),) if self._through_task else ()
        try:
            answer, body = await _through(self._proxy, f"http://{authority}{path}", authority, headers)
        except ProbeError as error:
            return Wrong(error.failure, error.detail)
        if answer.status != 200:
            return Wrong(Failure.STATUS, f"HTTP {answer.status} for the canary")
        if body != self._served.body:
            return Wrong(Failure.CONTENT, f"{len(body)} bytes of another content than the canary's")
        return None


class RegistryCanary:
    """Asks a registry for /v2/ through the mirror. dfdaemon forwards https URLs in absolute form too, so no
    TLS is needed here; what another proxy makes of them counts only once it has answered rightly (see
    Canaries).
    """

    def __init__(self, tasks: asyncio.TaskGroup, proxy: Url, origins: Origins) -> None:
        self._proxy = proxy
        self._origins = origins
        self._origin: Origin | None = None
        self.answers = False
        """Whether the registry itself answered, or stood, when it was asked last without the mirror."""
        self._probe = StaggeredProbe(
            tasks, Probe.CANARY, CanaryOk, CanaryFailed, self._attempt, attempts=_REGISTRY_ATTEMPTS
        )

    async def ask(self, origin: Origin, window_s: float) -> CanaryResult | None:
        """One round; None where the failure may be the registry's own."""
        self._origin = origin
        result = await self._probe.round(window_s)
        if not isinstance(result, CanaryFailed) or result.failure is Failure.REFUSED:
            # That is the mirror's alone.
            return result
        direct = await self._origins.status(origin)
        self.answers = direct.ok is True
        judged = result.failure in (Failure.STATUS, Failure.CONTENT)
        return result if (direct.registry if judged else direct.ok) else None

    async def _attempt(self, _number: int) -> Wrong | None:
        origin = self._origin
        assert origin is not None
        url = f"{'https' if origin.tls else 'http'}://{origin.name}/v2/"
        try:
            answer, body = await _through(self._proxy, url, origin.name)
        except ProbeError as error:
            return Wrong(error.failure, error.detail)
        if of_a_registry(answer, body):
            return None
        failure = Failure.CONTENT if answer.status == 200 else Failure.STATUS
        return Wrong(failure, f"HTTP {answer.status} for {url}, which is no registry's answer")


class _TimedBody:
    """A body, and when its first piece came."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._began = float("inf")

    def take(self, piece: bytes) -> None:
        self._began = min(self._began, time.monotonic())
        self.content += piece

    @property
    def took_s(self) -> float:
        """Seconds since then; 0 for an empty body."""
        return max(0.0, time.monotonic() - self._began)


async def _through(proxy: Url, url: str, authority: str, headers: Headers = ()) -> tuple[Answer, bytes]:
    """Ask the mirror. Raises ProbeError; a body that trickles is silence."""
    body = _TimedBody()
    with closing(Connection(proxy.host, proxy.port)) as connection:
        answer = await connection.ask(url, authority, (*CLOSE, *headers))
        await connection.body(answer, body.take)
    took_s = body.took_s
    if took_s > _BODY_S:
        detail = f"{len(body.content)} bytes trickled in during {took_s * 1000:.0f} ms"
        raise ProbeError(Failure.SILENT, detail)
    return answer, bytes(body.content)


class Canaries:
    """Sends the canaries of one session: which kind, when, and which of them count.

    A canary from the node's loopback says nothing where the mirror may not be able to reach it. So it counts
    from its first success, or from when the mirror's listener was seen on this node.
    """

    def __init__(self, session: Session, tasks: asyncio.TaskGroup, served: CanaryObject) -> None:
        settings = session.settings
        self._session = session
        self._loopback = LoopbackCanary(
            tasks, settings.proxy, served, self._late, cap_s=settings.policy.window_cap_s
        )
        self._policy = replace(settings.policy, canary=True)
        self._registry_policy = registry_policy(self._policy)
        self._registry = RegistryCanary(tasks, settings.proxy, session.origins)
        self._runs = self._wanted = False
        self._ended_at = self._loopback_due = self._registry_due = self._registry_asked_at = float("-inf")
        """When the last round was over, when each kind is due, and when a registry was asked last."""
        self._turn = self._unanswered = 0
        """Whose turn of the registries it is; and how many in succession cannot vouch for the mirror."""
        self._accepts = True
        """The mirror took the last canary, whatever became of it."""
        self._here = _listens_here(session.state, otherwise=session.state.local)
        """Something listened on the mirror's port of this node when that was looked at last."""

    async def run(self) -> None:
        """With each tick, what is due."""
        ticker, policy = self._session.ticker, self._session.settings.policy
        # Rather a tick early than one late: this bounds when a data path that hangs is noticed.
        rest_s = policy.canary_interval_s - 0.75 * ticker.every_s
        while True:
            await ticker.tick()
            if self._wanted or time.monotonic() - self._ended_at >= rest_s:
                self._runs, self._wanted = True, False
                await self._round()
                self._runs, self._ended_at = False, time.monotonic()
                if self._wanted:  # asked for meanwhile: that one began too early
                    ticker.hasten(0)

    def ask(self) -> None:
        """Send one now."""
        self._registry_due = min(self._registry_due, self._registry_asked_at + _REGISTRY_ASKED_S)
        self._wanted = True
        if not self._runs:
            self._session.ticker.hasten(0)

    def owner_judged(self) -> None:
        """Where the listener has come to this node, or has left it, what canaries can reach is learned anew,
        and registries are asked as soon as it is their turn. A socket that gets nothing of the mirror's is no
        listener.
        """
        here = _listens_here(self._session.state, otherwise=self._here)
        if here is not self._here:
            self._here = here
            self._session.reach = replace(self._session.reach, loopback=False, failures=0)
            self._turn = self._unanswered = 0
            self._registry_due = float("-inf")

    @property
    def policy(self) -> Policy:
        """While canaries come back: a clean one speaks for the mirror until the next is overdue."""
        return self._policy if self._counts else self._registry_policy

    @property
    def due_s(self) -> float:
        """Seconds until the next one, where a registry answers them; else that is soon."""
        return 0.0 if self._counts else max(0.0, self._registry_due - time.monotonic())

    @property
    def _counts(self) -> bool:
        """Whether a canary from the node's loopback says anything."""
        return self._session.reach.loopback or _is_local(self._session.state)

    def _late(self, event: CanaryOk) -> None:
        if self._counts:
            self._session.take(event)

    @property
    def _window_s(self) -> float:
        return canary_window_s(self._session.state, self._session.policy)

    async def _round(self) -> None:
        """A canary of one kind or the other, or none: a registry is asked seldom."""
        reach, now = self._session.reach, time.monotonic()
        if self._counts or reach.failures < _LOOPBACK_TRIES or now >= self._loopback_due:
            self._loopback_due = now + _LOOPBACK_AGAIN_S
            self._judge_loopback(await self._loopback.fetch(self._window_s))
        out_of_reach = self._session.reach.failures >= _LOOPBACK_TRIES and not self._counts
        if out_of_reach and time.monotonic() >= self._registry_due:
            self._registry_asked_at = time.monotonic()
            rest_s = await self._ask_registry()
            rest_s = _REGISTRY_ASKED_S if self._wanted else rest_s
            self._registry_due = time.monotonic() + jittered(rest_s)

    def _judge_loopback(self, result: CanaryResult | None) -> None:
        reach = self._session.reach
        if isinstance(result, CanaryOk) and not reach.loopback:
            self._session.reach = replace(reach, loopback=True)
        refused = isinstance(result, CanaryFailed) and result.failure is Failure.REFUSED
        self._accepts = not refused
        # That nobody takes a connection accuses the mirror wherever it is, once canaries have come back.
        if result is not None and (self._counts or (refused and self._session.policy.canary)):
            self._session.check_owner()  # before a clean canary lifts anything
            self._session.take(result)
        elif result is not None and reach.failures < _LOOPBACK_TRIES:
            self._session.reach = replace(reach, failures=reach.failures + 1)

    async def _ask_registry(self) -> float:
        """One that is in use and answers; it counts from its first success on. Seconds until the next one is
        due."""
        session, good = self._session, self._session.origins.good()
        if not good:
            if not session.origins.any:
                self._nobody_can_tell()
            return _REGISTRY_WORRIED_S
        origin = good[self._turn % len(good)]
        result = await self._registry.ask(origin, self._window_s)
        if isinstance(result, CanaryOk) and origin.name not in session.reach.proved:
            session.reach = replace(session.reach, proved=session.reach.proved | {origin.name})
        if result is not None and origin.name in session.reach.proved:
            self._unanswered = 0
            session.check_owner()
            session.take(result)
            return REGISTRY_S if session.state.health_state is HealthState.HEALTHY else _REGISTRY_WORRIED_S
        self._turn += 1
        can_vouch = origin.name in session.reach.proved and self._registry.answers
        self._unanswered = 0 if can_vouch else self._unanswered + 1
        if self._unanswered < 2 * len(good):  # also where one has vouched: it may be gone for good
            return _REGISTRY_WORRIED_S
        self._nobody_can_tell()
        return _REGISTRY_IDLE_S

    def _nobody_can_tell(self) -> None:
        """No canary comes back from where the mirror is now, although it takes them: pings decide, as
        before.
        """
        if self._accepts and self._session.policy.canary:
            self._session.do_without_canaries()


def registry_policy(policy: Policy) -> Policy:
    """The policy where a registry answers canaries, which come seldom."""
    vouch_s = 1.1 * REGISTRY_S + 2 * policy.canary_window_s
    return replace(policy, canary_interval_s=_REGISTRY_WORRIED_S, vouch_s=vouch_s)


def _listens_here(state: State, *, otherwise: bool) -> bool:
    return otherwise if state.owner is Owner.UNKNOWN else state.owner is not Owner.NONE


def _is_local(state: State) -> bool:
    return state.local and state.owner is not Owner.NONE
