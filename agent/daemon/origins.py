"""Asks the origins whether they can be reached: rarely and at a time of its own for each node, because every
node of a fleet does it, and at once when the mirror is suspect. While the mirror is fenced, reads hang on an
origin: then one that was good is asked every few seconds. While none is good, reads hang on the bad mirror:
then they are asked one after the other, so that up to three are each asked within 9 s. With more, one that
comes back is seen later, by up to 3 s for each that is known: 30 s with ten.

"Good" means that /v2/ is answered (401 and 429 included: it lives). A registry that wants a certificate of
the client refuses the handshake: it lives too.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from agent.daemon.http_client import CLOSE, Answer, Connection, ProbeError
from agent.daemon.settings import Origin
from agent.errors import PortError
from agent.health.evidence import AgentInWant, Failure, Mode, OriginSeen
from agent.health.state import HealthState, State
from agent.outside_json import json_value
from agent.ports import Names

EVERY_S = 45.0
"""Mean time between two rounds; each lasts between a half and one and a half of it."""
SOON_S = 2.0
"""Where no origin answered, the next round is due this soon, then after twice that, up to EVERY_S: nothing is
fenced before an origin has answered, and at boot the network may come up after us."""
_SOON_FENCED_S, WATCH_S = 2.0, 5.0
"""While the mirror is fenced, or would be were an origin good, the next question comes after a time between
these two. An origin that dies lifts the fence within the longer one, AGAIN_S and DEADLINE_S: 9 s. 10,000
nodes whose mirrors are fenced at once send 2,900 requests for /v2/ a second, to all origins together."""
TURN_S, _TURNS_S = 3.0, 9.0
"""While none is good, the longer one is shorter, so that all have had their turn after _TURNS_S, but not
below TURN_S: each node keeps a moment of its own. Those 10,000 nodes then send 4,000 a second where three
origins or more are known.
"""
DEADLINE_S = 3.0
AGAIN_S = 0.6
"""A round in which no origin answered is repeated once before it counts: lifting the fence on one lost packet
would send reads back to a mirror that is known to be bad. nydusd 2.4 gives a refused read up after 1 s, so it
is sooner."""


@dataclass(frozen=True, slots=True)
class OriginStatus:
    """What was seen of one origin last. `ok` is None too where the agent lacked what it needs to ask."""

    host: str
    ok: bool | None = None
    at: float | None = None  # monotonic
    detail: str = ""
    registry: bool = False
    """The answer was one that only a registry gives (`of_a_registry`)."""


def reads_depend(state: State) -> bool:
    """Whether reads are at the origins, or would be if one were good, and not because the operator says
    so.
    """
    bad = state.health_state in (HealthState.DOWN, HealthState.PROBATION)
    return state.mode is Mode.FENCE and state.pin is None and (bad or state.fence is not None)


class Origins:
    """The origins in use, what was seen of them, and the rounds in which they are asked. `needed` says
    whether reads depend on them now.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        known: tuple[Origin, ...],
        names: Names,
        take: Callable[[OriginSeen | AgentInWant], None],
        needed: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._known = known
        self._addresses = Addresses(names)
        self._take = take
        self._needed = needed
        self._wanted = self._hurried = False
        """Asked for while a round was under way: that one began too early; and without the pause between two.
        """
        self._rests = False
        self._due = self._began_at = self._all_due = float("-inf")
        """When the next round is due, when the last one began, and when all are to be asked again."""
        self._hastened = asyncio.Event()
        self._soon_s = SOON_S
        """To the next round, should none answer."""
        self._turn, self._none_told = 0, False
        """Whose turn it is while none is good; that none is was told, and none has answered since."""
        self._asked_at = dict.fromkeys((origin.name for origin in known), float("-inf"))
        """When the question was put whose answer is in `seen`."""
        self.seen = {origin.name: OriginStatus(origin.name) for origin in known}

    @property
    def any(self) -> bool:
        """Whether one is known by name."""
        return bool(self._known)

    def good(self) -> tuple[Origin, ...]:
        """Those that answered when they were asked last, in the operator's order."""
        return tuple(origin for origin in self._known if self.seen[origin.name].ok)

    async def status(self, origin: Origin) -> OriginStatus:
        """What an origin answers to /v2/ now."""
        return await self._ask(origin)

    # Who wants them to be asked

    def ask(self) -> None:
        """Ask now."""
        self._hurried = True
        self.ask_soon()

    def ask_soon(self) -> None:
        """The same for each read that fails; while reads depend on the origins, every other second at
        most.
        """
        self._wanted = True
        if self._rests:
            self._hasten(self._pause_end())

    def watch(self) -> None:
        """The fence goes up, or is renewed: where reads depend on the origins, the next round must not be far
        off."""
        if self._rests and self._due - _now() > WATCH_S and self._needed():
            self._hasten(_now() + self._watch_s())

    def _hasten(self, when: float) -> None:
        if when < self._due:
            self._due = when
            self._hastened.set()

    def _pause_end(self) -> float:
        pause = self._needed() and not self._hurried
        return self._began_at + _SOON_FENCED_S if pause else _now()

    def _watch_s(self) -> float:
        longest_s = WATCH_S if self.good() else max(TURN_S, min(WATCH_S, _TURNS_S / len(self._known)))
        return _SOON_FENCED_S + (longest_s - _SOON_FENCED_S) * os.urandom(1)[0] / 256

    # Rounds

    async def run(self) -> None:
        """Ask now, and again and again."""
        if not self._known:
            self._take(OriginSeen(good=True, detail="no origin is known by name, so none can be asked"))
            return
        while True:
            rest_s, soon_s, failed = await self._round()
            self._soon_s = soon_s
            self._begin_rest(rest_s)
            if failed:
                self._tell_none()
            await self._rest()

    def _begin_rest(self, seconds: float) -> None:
        """About so long; less where somebody waits for an answer."""
        self._rests = True
        if self._wanted:
            self._due = self._pause_end()
        elif self._needed():
            self._due = _now() + self._watch_s()
        else:
            self._due = _now() + seconds * (0.5 + os.urandom(1)[0] / 256)

    async def _rest(self) -> None:
        while (left_s := self._due - _now()) > 0:
            self._hastened.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._hastened.wait()
        self._rests = False

    async def _round(self) -> tuple[float, float, bool]:
        """Seconds to the next round, those to the one after it should none answer, and whether none did."""
        hurried = self._hurried
        self._wanted = self._hurried = False
        self._began_at = _now()
        good = self.good()
        if not self._needed():
            answered = await self._ask_all_twice()
        elif good:
            answered = await self._ask_one(good[os.urandom(1)[0] % len(good)])
        elif not self._none_told:
            answered = await self._ask_all_twice()
        elif hurried:
            answered = await self._ask_all()
        else:
            self._ask_in_turn()
            answered = True  # or it tells by itself
        if answered:
            return EVERY_S, SOON_S, False
        return self._soon_s, min(2 * self._soon_s, EVERY_S), True

    def _ask_in_turn(self) -> None:
        """One of those of which none is good. The next one does not wait for its answer."""
        origin = self._known[self._turn % len(self._known)]
        self._turn += 1
        self._tasks.create_task(self._ask_and_tell(origin), name=f"origin {origin.name}, in turn")

    async def _ask_and_tell(self, origin: Origin) -> None:
        status = await self._ask(origin)
        if status.ok:
            self._tell_good(status)
        elif not self.good():
            self._tell_none()

    async def _ask_one(self, origin: Origin) -> bool:
        """All are asked where it fails, or says nothing for a while: a lost packet must not cost the whole
        deadline. Where it answers all have their turn after it: a round that begins with them notices a
        silent one later.
        """
        asked = self._begin(origin)
        done, _ = await asyncio.wait({asked}, timeout=AGAIN_S)
        if not (done and asked.result().ok):
            await asyncio.sleep(max(0.0, self._began_at + AGAIN_S - _now()))
            return await self._ask_all()
        self._tell_good(asked.result())
        return self._began_at < self._all_due or await self._ask_all_twice()

    async def _ask_all_twice(self) -> bool:
        self._all_due = self._began_at + EVERY_S
        if await self._ask_all():
            return True
        await asyncio.sleep(AGAIN_S)
        return await self._ask_all()

    async def _ask_all(self) -> bool:
        """Ask all at the same time; the first good answer is told at once. Whether there was one.

        One good origin is enough: the fence then helps its images, and a mirror under suspicion is no help to
        others. While reads depend on the good one, it is not forgotten for those that say nothing.
        """
        asked, good = {self._begin(origin) for origin in self._known}, False
        while asked and not (good and self._needed()):
            done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            answers = [task.result() for task in done if task.result().ok]
            if answers and not good:
                good = True
                self._tell_good(answers[0])
        return good

    def _tell_good(self, status: OriginStatus) -> None:
        self._take(OriginSeen(good=True, detail=f"{status.host} {status.detail}"))

    def _tell_none(self) -> None:
        unknown = any(status.ok is None for status in self.seen.values())
        why = "; ".join(f"{status.host}: {status.detail}" for status in self.seen.values())
        self._none_told = not unknown
        self._take(AgentInWant(why) if unknown else OriginSeen(good=False, detail=why))

    # One question

    def _begin(self, origin: Origin) -> asyncio.Task[OriginStatus]:
        return self._tasks.create_task(self._ask(origin), name=f"origin {origin.name}")

    async def _ask(self, origin: Origin) -> OriginStatus:
        """Its addresses one after the other, within the deadline. What a newer question was answered counts
        more."""
        asked_at = _now()
        try:
            async with asyncio.timeout(DEADLINE_S):
                ok, detail, registry = await self._answer_of(origin)
        except TimeoutError:
            self._addresses.mistrust(origin.host)
            ok, detail, registry = False, f"no answer in {DEADLINE_S:g} s", False
        if asked_at >= self._asked_at[origin.name]:
            self._asked_at[origin.name], self._none_told = asked_at, self._none_told and not ok
            self.seen[origin.name] = OriginStatus(origin.name, ok, _now(), detail, registry)
        return self.seen[origin.name]

    async def _answer_of(self, origin: Origin) -> tuple[bool | None, str, bool]:
        """As in OriginStatus. What an address answered says more than that another could not be asked."""
        try:
            addresses = await self._addresses.of(origin.host)
        except PortError as error:
            return False, f"{error.what}: {error.cause}", False
        worst = ProbeError(Failure.UNREACHABLE, "has no address")
        for number, address in enumerate(addresses):
            try:
                said, registry = await _speak(origin, address)
            except ProbeError as error:
                if number == 0 or error.failure is not Failure.WANT:
                    worst = error
            else:
                return True, said, registry
        if worst.failure is Failure.WANT:
            return None, worst.detail, False
        self._addresses.mistrust(origin.host)
        return False, worst.detail, False


_BODY_S = 0.5
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
"""What OpenSSL makes of a server that answers in plain words."""


async def _speak(origin: Origin, address: str) -> tuple[str, bool]:
    """What it says to /v2/, in words; and whether only a registry says so. Raises ProbeError."""
    body, whole = bytearray(), False
    with closing(Connection(address, origin.port, origin.host if origin.tls else "")) as connection:
        try:
            answer = await connection.ask("/v2/", origin.name, CLOSE)
            with suppress(ProbeError, TimeoutError):
                async with asyncio.timeout(_BODY_S):
                    await connection.body(answer, body.extend)
                whole = True
        except ssl.SSLError as error:
            if error.reason in _NO_TLS:
                raise ProbeError(Failure.CONTENT, "speaks no TLS") from None
            return f"answered the TLS handshake: {error.reason or error}", False
    if answer.status >= 500:
        raise ProbeError(Failure.STATUS, f"HTTP {answer.status} for /v2/")
    return f"answered /v2/ with {answer.status}", whole and of_a_registry(answer, body)


def of_a_registry(answer: Answer, body: bytes | bytearray) -> bool:
    """Whether that is what /v2/ gives (OCI distribution specification): 401 with a challenge, or 200, with
    JSON or no body.
    """
    if answer.status == 401:
        marks = ("docker-distribution-api-version", "www-authenticate")
        return any(mark in answer.headers for mark in marks)
    with suppress(ValueError):
        return answer.status == 200 and (not body or json_value(bytes(body)) is not None)
    return False


class Addresses:
    """The addresses of hosts. Those that answered once are kept: a decision must not wait for a name server,
    and where the node cannot ask one any more (no task left) the former ones may still be right.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[str, tuple[str, ...]] = {}
        self._stale: set[str] = set()
        """Hosts whose addresses did not answer the last time: a name server is asked again."""

    async def of(self, host: str) -> tuple[str, ...]:
        """The host's addresses. Raises PortError where none were ever known."""
        known = self._known.get(host)
        if known is not None and host not in self._stale:
            return known
        try:
            self._known[host] = await self._names.addresses(host)
        except PortError:
            if known is None:
                raise
            return known
        self._stale.discard(host)
        return self._known[host]

    def mistrust(self, host: str) -> None:
        """Its addresses did not answer."""
        self._stale.add(host)


def _now() -> float:
    return asyncio.get_running_loop().time()
