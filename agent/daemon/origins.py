"""Asks the origins whether they can be reached: rarely and at a time of its own for each node, because every node of
a fleet does it, and at once when the mirror is suspect. While the mirror is fenced, reads hang on an origin: then one
that was good is asked every few seconds. While none is good, reads hang on the bad mirror: then they are asked one
after the other, so that up to three are each asked within 9 s. With more, one that comes back is seen later, by up to
3 s for each that is known: 30 s with ten.

For an http registry "good" means that /v2/ is answered (401 and 429 included: it lives). For https it means that the
port accepts a connection; the daemon carries no TLS, and root's inspection looks deeper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.config.model import RegistryHost, Scheme
from agent.daemon.addresses import Addresses
from agent.daemon.http import CLOSE, Answer, Connection, ProbeError
from agent.daemon.turning import Loop, Timer
from agent.errors import PortError
from agent.health.evidence import AgentInWant, Failure, Mode, OriginSeen
from agent.health.state import HealthState, State
from agent.ports_daemon import Names

EVERY_S = 45.0
"""Mean time between two rounds; each lasts between a half and one and a half of it."""
_SOON_S = 2.0
"""Where no origin answered, the next round is due this soon, then after twice that, up to EVERY_S: nothing is fenced
before an origin has answered, and at boot the network may come up after us."""
_SOON_FENCED_S, _WATCH_S = 2.0, 5.0
"""While the mirror is fenced, or would be were an origin good, the next question comes after a time between these two.
An origin that dies lifts the fence within the longer one, _AGAIN_S and _DEADLINE_S: 9 s. 10,000 nodes whose mirrors are
fenced at once send 2,900 requests for /v2/ a second, to all origins together."""
_TURN_S, _TURNS_S = 3.0, 9.0
"""While none is good, the longer one is shorter, so that all have had their turn after _TURNS_S, but not below _TURN_S:
each node keeps a moment of its own. Those 10,000 nodes then send 4,000 a second where three origins or more are known.
"""
_DEADLINE_S = 3.0
_AGAIN_S = 0.6
"""A round in which no origin answered is repeated once before it counts: lifting the fence on one lost packet would
send reads back to a mirror that is known to be bad. nydusd 2.4 gives a refused read up after 1 s, so it is sooner."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A registry in use."""

    host: str
    port: int
    tls: bool

    @property
    def name(self) -> str:
        """As the operator writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OriginStatus:
    """What was seen of one origin last. `ok` is None too where the agent lacked what it needs to ask."""

    host: str
    ok: bool | None = None
    at: float | None = None  # monotonic
    detail: str = ""
    status: int = 0
    """Of /v2/; 0: not asked for."""


def origins(hosts: Sequence[RegistryHost], in_use: Sequence[str]) -> tuple[Origin, ...]:
    """The operator's registries and those that root's verbs saw in use ("host" or "host:port"), each once."""
    schemes = {entry.host: entry.scheme for entry in hosts}
    names = dict.fromkeys([*schemes, *in_use])
    return tuple(_origin(name, tls=schemes.get(name, Scheme.HTTPS) is Scheme.HTTPS) for name in names)


def _origin(name: str, *, tls: bool) -> Origin:
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit() and not host.endswith(":"):
        return Origin(host.strip("[]"), int(port), tls)
    return Origin(name.strip("[]"), 443 if tls else 80, tls)


class Origins:
    """The origins in use, what was seen of them, and the rounds in which they are asked."""

    def __init__(
        self,
        loop: Loop,
        known: tuple[Origin, ...],
        names: Names,
        post: Callable[[OriginSeen | AgentInWant], None],
        *,
        needed: Callable[[], bool] = lambda: False,
    ) -> None:
        """`needed`: reads depend on the origins now."""
        self._loop = loop
        self._needed = needed
        self._known = known
        self._addresses = Addresses(loop, names)
        self._post = post
        self._wanted = self._hurried = False
        """Asked for while a round was under way: that one began too early; and without the pause between two."""
        self._rests = False
        self._timer: Timer | None = None
        self._began_at = self._all_due = float("-inf")
        """When the last round began, and when all are to be asked again."""
        self._soon_s = _SOON_S
        """To the next round, should none answer."""
        self._asked: set[_Asking] = set()
        self._turn, self._none_told = 0, False
        """Whose turn it is while none is good; that none is was told, and none has answered since."""
        self._asked_at = dict.fromkeys((origin.name for origin in known), float("-inf"))
        """When the question was put whose answer is in `seen`."""
        self.seen = {origin.name: OriginStatus(origin.name) for origin in known}

    def begin(self) -> None:
        """Ask now, and again and again."""
        if self._known:
            self._begin_round()
        else:
            self._post(OriginSeen(good=True, detail="no origin is known by name, so none can be asked"))

    def ask(self) -> None:
        """Ask now."""
        self._hurried = True
        self.ask_soon()

    def ask_soon(self) -> None:
        """The same for each read that fails; while reads depend on the origins, every other second at most."""
        self._wanted = True
        if self._rests:
            self._begin_round_in(self._pause_s())

    def watch(self) -> None:
        """The fence goes up, or is renewed: where reads depend on the origins, the next round must not be far off."""
        rests = self._rests and self._timer is not None and self._timer.when - self._loop.time() > _WATCH_S
        if rests and self._needed():
            self._begin_round_in(self._watch_s())

    def _watch_s(self) -> float:
        longest_s = _WATCH_S if self.good() else max(_TURN_S, min(_WATCH_S, _TURNS_S / len(self._known)))
        return _SOON_FENCED_S + (longest_s - _SOON_FENCED_S) * os.urandom(1)[0] / 256

    def _pause_s(self) -> float:
        pause = self._needed() and not self._hurried
        return max(0.0, self._began_at + _SOON_FENCED_S - self._loop.time()) if pause else 0.0

    def close(self) -> None:
        """Ask no more, and wait for no answer."""
        self._rests = False
        if self._timer is not None:
            self._timer.cancel()
        for asking in tuple(self._asked):
            asking.close()
        self._asked.clear()

    @property
    def any(self) -> bool:
        """Whether one is known by name."""
        return bool(self._known)

    def good(self) -> tuple[Origin, ...]:
        """Those that answered when they were asked last, in the operator's order."""
        return tuple(origin for origin in self._known if self.seen[origin.name].ok)

    def status(self, origin: Origin, told: Callable[[int | None], None]) -> None:
        """`told` hears what an origin answers to /v2/ now: an HTTP status, 0 where only its port can be seen to accept;
        None: it does not answer.
        """
        self._ask(origin, lambda seen: told(seen.status if seen.ok else None))

    def _begin_round_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._begin_round)

    def _begin_round(self) -> None:
        hurried = self._hurried
        self._wanted = self._hurried = self._rests = False
        self._began_at = self._loop.time()
        good = self.good()
        if not self._needed():
            self._ask_all(self._again)
        elif good:
            self._ask_one(good[os.urandom(1)[0] % len(good)])
        elif not self._none_told:
            self._ask_all(self._again)
        elif hurried:
            self._ask_all(self._none)
        else:
            self._ask_in_turn()

    def _ask_all(self, failed: Callable[[], None]) -> None:
        self._all_due = self._began_at + EVERY_S
        self._round(failed)

    def _ask_in_turn(self) -> None:
        """One of those of which none is good. The next one does not wait for its answer."""
        origin = self._known[self._turn % len(self._known)]
        self._turn += 1

        def told(status: OriginStatus) -> None:
            if status.ok:
                self._post(OriginSeen(good=True, detail=f"{status.host} {status.detail}"))
            elif not self.good():
                self._tell_none()

        self._ask(origin, told)
        self._rest(EVERY_S)

    def _ask_one(self, origin: Origin) -> None:
        """All are asked where it fails, or says nothing for a while: a lost packet must not cost the whole deadline.
        Where it answers all have their turn after it: a round that begins with them notices a silent one later.
        """
        over = False

        def doubt() -> None:
            nonlocal over
            if not over:
                over = True
                self._round(self._none)

        def told(status: OriginStatus) -> None:
            nonlocal over
            if over:
                return
            if status.ok:
                over = True
                timer.cancel()
                self._post(OriginSeen(good=True, detail=f"{status.host} {status.detail}"))
                if self._began_at < self._all_due:
                    self._rest(EVERY_S)
                else:
                    self._ask_all(self._again)

        timer = self._timer = self._loop.call_later(_AGAIN_S, doubt)
        self._ask(origin, told)

    def _round(self, failed: Callable[[], None]) -> None:
        """Ask all at the same time; the first good answer is told at once, and `failed` hears that there was none.

        One good origin is enough: the fence then helps its images, and a mirror under suspicion is no help to others.
        """
        left, good, over = len(self._known), False, False

        def told(status: OriginStatus) -> None:
            nonlocal left, good, over
            left -= 1
            if status.ok and not good:
                good = True
                self._post(OriginSeen(good=True, detail=f"{status.host} {status.detail}"))
            if over or (left and not (good and self._needed())):
                return
            over = True  # while reads depend on the good one, it is not forgotten for those that say nothing
            if good:
                self._rest(EVERY_S)
            else:
                failed()

        for origin in self._known:
            self._ask(origin, told)

    def _again(self) -> None:
        self._timer = self._loop.call_later(_AGAIN_S, lambda: self._round(self._none))

    def _none(self) -> None:
        self._rest(self._soon_s, min(2 * self._soon_s, EVERY_S))
        self._tell_none()

    def _tell_none(self) -> None:
        unknown = any(status.ok is None for status in self.seen.values())
        why = "; ".join(f"{status.host}: {status.detail}" for status in self.seen.values())
        self._none_told = not unknown
        self._post(AgentInWant(why) if unknown else OriginSeen(good=False, detail=why))

    def _rest(self, seconds: float, soon_s: float = _SOON_S) -> None:
        """Until the next round; after that for `soon_s`, should none answer."""
        self._soon_s, self._rests = soon_s, True
        if self._wanted:
            self._begin_round_in(self._pause_s())
        elif self._needed():
            self._begin_round_in(self._watch_s())
        else:
            self._begin_round_in(seconds * (0.5 + os.urandom(1)[0] / 256))

    def _ask(self, origin: Origin, told: Callable[[OriginStatus], None]) -> None:
        asked_at = self._loop.time()

        def over(status: OriginStatus) -> None:
            self._asked.discard(asking)
            if asked_at >= self._asked_at[origin.name]:
                self._asked_at[origin.name] = asked_at
                self.seen[origin.name], self._none_told = status, self._none_told and not status.ok
            told(self.seen[origin.name])  # what a newer question was answered counts more

        asking = _Asking(self._loop, origin, self._addresses, over)
        self._asked.add(asking)
        asking.begin()


def needed(state: State) -> bool:
    """Whether reads are at the origins, or would be if one were good, and not because the operator says so."""
    bad = state.health_state in (HealthState.DOWN, HealthState.PROBATION)
    return state.mode is Mode.FENCE and state.pin is None and (bad or state.fence is not None)


class _Asking:
    """One origin is asked once: its addresses one after the other, within the deadline."""

    def __init__(self, loop: Loop, origin: Origin, addresses: Addresses, told: Callable[[OriginStatus], None]) -> None:
        self._loop = loop
        self._origin = origin
        self._addresses = addresses
        self._told = told
        self._left: list[str] = []
        self._worst: ProbeError | None = None
        self._connection: Connection | None = None
        self._timer: Timer | None = None
        self._closed = False

    def begin(self) -> None:
        """Once."""
        self._timer = self._loop.call_later(_DEADLINE_S, self._silent)
        self._addresses.of(self._origin.host, self._resolved)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._give_up()

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _resolved(self, found: tuple[str, ...] | PortError) -> None:
        if self._closed:
            return
        if isinstance(found, PortError):
            self._tell(ok=False, detail=f"{found.what}: {found.cause}")
        else:
            self._left = list(found)
            self._next()

    def _next(self) -> None:
        """What an address answered says more than that another could not be asked."""
        while self._left:
            try:
                self._speak(self._left.pop(0))
            except ProbeError as error:
                self._failed(error)
            else:
                return
        worst = self._worst or ProbeError(Failure.UNREACHABLE, "has no address")
        if worst.failure is Failure.WANT:
            self._tell(ok=None, detail=worst.detail)
        else:
            self._addresses.failed(self._origin.host)
            self._tell(ok=False, detail=worst.detail)

    def _failed(self, error: ProbeError) -> None:
        self._give_up()
        if self._worst is None or error.failure is not Failure.WANT:
            self._worst = error

    def _speak(self, address: str) -> None:
        connection = self._connection = Connection.begin(self._loop, address, self._origin.port)
        if self._origin.tls:
            connection.stand(self._stands)
        else:
            connection.ask("/v2/", self._origin.name, CLOSE, lambda _: None, self._answered)

    def _stands(self, error: ProbeError | None) -> None:
        if error is not None:
            self._failed(error)
            self._next()
        else:
            self._tell(ok=True, detail="accepts connections")

    def _answered(self, found: Answer | ProbeError) -> None:
        if isinstance(found, Answer) and found.status >= 500:
            found = ProbeError(Failure.STATUS, f"HTTP {found.status} for /v2/")
        if isinstance(found, ProbeError):
            self._failed(found)
            self._next()
        else:
            self._tell(ok=True, detail=f"answered /v2/ with {found.status}", status=found.status)

    def _silent(self) -> None:
        self._addresses.failed(self._origin.host)
        self._tell(ok=False, detail=f"no answer in {_DEADLINE_S:g} s")

    def _tell(self, *, ok: bool | None, detail: str, status: int = 0) -> None:
        self.close()
        self._told(OriginStatus(self._origin.name, ok, self._loop.time(), detail, status))
