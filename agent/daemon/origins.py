"""Asks the origins whether they can be reached: rarely and at a time of its own for each node, because every node of
a fleet does it, and at once when the mirror is suspect.

For an http registry "good" means that /v2/ is answered (401 and 429 included: it lives). For https it means that the
port accepts a connection; the daemon carries no TLS, and root's inspection looks deeper.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.config.model import RegistryHost, Scheme
from agent.daemon.http import Connection, ProbeError
from agent.errors import PortError
from agent.health.evidence import AgentInWant, Failure, OriginSeen
from agent.ports import Names

EVERY_S = 45.0
"""Mean time between two rounds; each lasts between a half and one and a half of it."""
_SOON_S = 2.0
"""Where no origin answered, the next round is due this soon, then after twice that, up to EVERY_S: nothing is fenced
before an origin has answered, and at boot the network may come up after us."""
_DEADLINE_S = 3.0
_AGAIN_S = 1.0
"""A round in which no origin answered is repeated once before it counts: lifting the fence on one lost packet would
send reads back to a mirror that is known to be bad."""


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
    """The origins in use, what was seen of them, and the task that asks."""

    def __init__(
        self, known: tuple[Origin, ...], names: Names, post: Callable[[OriginSeen | AgentInWant], None]
    ) -> None:
        self._known = known
        self._names = names
        self._post = post
        self._wanted = asyncio.Event()
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._stale: set[str] = set()
        """Hosts whose addresses did not answer the last time: a name server is asked again."""
        self.seen = {origin.name: OriginStatus(origin.name) for origin in known}

    def ask(self) -> None:
        """Ask all of them now."""
        self._wanted.set()

    def good(self) -> tuple[Origin, ...]:
        """Those that answered when they were asked last, in the operator's order."""
        return tuple(origin for origin in self._known if self.seen[origin.name].ok)

    async def status(self, origin: Origin) -> int | None:
        """What an origin answers to /v2/ now: an HTTP status, 0 where only its port can be seen to accept; None: it
        does not answer.
        """
        seen = self.seen[origin.name] = await self._ask(origin)
        return seen.status if seen.ok else None

    async def run(self) -> None:
        """Ask for ever."""
        if not self._known:
            self._post(OriginSeen(good=True, detail="no origin is known by name, so none can be asked"))
            return
        soon_s = _SOON_S  # to the next round, should none answer
        while True:
            self._wanted.clear()
            good = await self._round()
            if not good:
                await asyncio.sleep(_AGAIN_S)
                good = await self._round()
                if not good:
                    unknown = any(status.ok is None for status in self.seen.values())
                    why = self._failures()
                    self._post(AgentInWant(why) if unknown else OriginSeen(good=False, detail=why))
            rest_s = EVERY_S if good else soon_s
            soon_s = _SOON_S if good else min(2 * soon_s, EVERY_S)
            try:
                async with asyncio.timeout(rest_s * (0.5 + os.urandom(1)[0] / 256)):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _round(self) -> bool:
        """Ask all at the same time; the first good answer is told at once. Whether there was one.

        One good origin is enough: the fence then helps its images, and a mirror under suspicion is no help to others.
        """
        asked = [asyncio.create_task(self._ask(origin)) for origin in self._known]
        good = False
        try:
            for answer in asyncio.as_completed(asked):
                status = await answer
                self.seen[status.host] = status
                if status.ok and not good:
                    good = True
                    self._post(OriginSeen(good=True, detail=f"{status.host} {status.detail}"))
        finally:
            for task in asked:
                task.cancel()
        return good

    async def _ask(self, origin: Origin) -> OriginStatus:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                detail, status = await self._reach(origin)
        except TimeoutError:
            self._stale.add(origin.host)
            return OriginStatus(origin.name, ok=False, at=loop.time(), detail=f"no answer in {_DEADLINE_S:g} s")
        except ProbeError as error:
            if error.failure is Failure.WANT:
                return OriginStatus(origin.name, ok=None, at=loop.time(), detail=error.detail)
            self._stale.add(origin.host)
            return OriginStatus(origin.name, ok=False, at=loop.time(), detail=error.detail)
        except PortError as error:
            return OriginStatus(origin.name, ok=False, at=loop.time(), detail=f"{error.what}: {error.cause}")
        return OriginStatus(origin.name, ok=True, at=loop.time(), detail=detail, status=status)

    async def _reach(self, origin: Origin) -> tuple[str, int]:
        worst: ProbeError | None = None
        for address in await self._resolved(origin.host):
            try:
                return await _speak(address, origin)
            except ProbeError as error:  # what an address answered says more than that another could not be asked
                worst = error if worst is None or error.failure is not Failure.WANT else worst
        raise worst or ProbeError(Failure.UNREACHABLE, "has no address")

    async def _resolved(self, host: str) -> tuple[str, ...]:
        """Addresses that answered once are kept: a decision must not wait for a name server, and where the node cannot
        ask one any more (no task left) the former ones may still be right.
        """
        if host not in self._addresses or host in self._stale:
            try:
                self._addresses[host] = await self._names.addresses(host, deadline_s=_DEADLINE_S)
            except PortError:
                if host not in self._addresses:
                    raise
            else:
                self._stale.discard(host)
        return self._addresses[host]

    def _failures(self) -> str:
        return "; ".join(f"{status.host}: {status.detail}" for status in self.seen.values())


async def _speak(address: str, origin: Origin) -> tuple[str, int]:
    connection = await Connection.open(address, origin.port)
    try:
        if origin.tls:
            return "accepts connections", 0
        answer = await connection.get("/v2/", origin.name, {"Connection": "close"})
    finally:
        connection.close()
    if answer.status >= 500:
        raise ProbeError(Failure.STATUS, f"HTTP {answer.status} for /v2/")
    return f"answered /v2/ with {answer.status}", answer.status
