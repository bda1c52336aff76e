"""What is known of the mirror beyond one session of the daemon: over a reload, another set of origins, and,
in a small file, a restart or a crash. Otherwise each of these would move reads to a mirror that was just
found bad.

The file lies in the runtime directory, which systemd keeps while the unit is restarted and removes when it is
stopped. It counts for the same boot and the same mirror, where it is a regular file of this process's own
user and every value in it makes sense; all else means that nothing is known. Its times are CLOCK_MONOTONIC,
which is one clock for a boot.

The history is read back from status.json by the same rules: nothing in either file may keep the daemon from
starting.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, TypeAlias

from agent import API_VERSION
from agent.codec import DocumentError, Limits, Text, compact, from_document, to_document, try_from_json
from agent.daemon import publish
from agent.daemon.documents import Document
from agent.documents.status import Change
from agent.health.evidence import Owner, Route, SymptomKind
from agent.health.policy import Policy
from agent.health.state import NEVER, Accuser, Cause, Flap, HealthState, RaisedFence, State
from agent.node.machine import present

_AHEAD_S = 86400.0
"""Nothing that is remembered ends later than this: what is further off makes no sense."""
_STARTED = "the agent was started anew and judges the mirror once more"
_WENT_ON = "the agent was started anew and goes on from what it knew"
_RECALLED = 99
"""Entries that are taken over; with that of the start itself they are what a history holds."""
_BAD = (HealthState.SUSPECT, HealthState.DOWN, HealthState.PROBATION)


@dataclass(frozen=True, slots=True)
class Reach:
    """What was learned of how canaries come back through the mirror."""

    loopback: bool = False
    """One from the node's loopback did."""
    failures: int = 0
    """So many from the loopback did not, since it was learned anew."""
    proved: frozenset[str] = frozenset()
    """Registries whose /v2/ did."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one session hands to the next."""

    mirror: str
    """Its address; another mirror is not known."""
    ping: str
    """What is asked for its pings."""
    state: State = field(default_factory=State)
    canary: bool = False
    """Canaries come back, so they must."""
    reach: Reach = field(default_factory=Reach)


class MemoryFile:
    """The file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._boot = ""
        self._written = b""
        self._last: Memory | None = None

    def load(self, now: float, policy: Policy) -> Memory | None:
        """What a former run has left; None where there is nothing that counts."""
        try:
            known = from_document(MemoryDocument, Document(self._path, os.geteuid()).load() or {})
        except DocumentError:
            return None
        if not self._here() or known.boot != self._here() or not known.plausible(now):
            return None
        return _decoded(known, now, policy)

    def save(self, memory: Memory) -> None:
        """Write it where it says something new.

        Where that cannot be done, the next run knows less; no more.
        """
        last = self._last
        if last is not None and memory.state is last.state and memory.reach is last.reach and memory == last:
            return  # so it is each second, on most days
        content = _encoded(memory, self._here())
        with contextlib.suppress(OSError):  # no room in /run: the next time tries again
            if content != self._written:
                publish.write(self._path, content, 0o600)
            self._written, self._last = content, memory

    def _here(self) -> str:
        if not self._boot:
            self._boot = present().boot
        return self._boot


Monotonic: TypeAlias = Annotated[float, Limits(least=0)]
"""A time of CLOCK_MONOTONIC; none may lie further ahead than _AHEAD_S."""
Settled: TypeAlias = tuple[Monotonic, Monotonic, bool]
"""A Flap: penalty, when that was, whether it holds the mirror back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDocument:
    """What is remembered, as it is written."""

    KIND: ClassVar = "DaemonMemory"
    boot: Text
    mirror: Text
    ping: Text
    health_state: HealthState
    since: Monotonic
    reason: Text
    evidence: Text
    cause: Cause
    was_well: bool
    was_local: bool
    foreign: bool
    origin: bool
    ping_refuted: bool
    sentinel_trusted: bool
    flap: Settled
    unblamed: Settled
    stalls: Settled
    return_at: Monotonic | None
    doubted: frozenset[Accuser]
    doubted_until: Monotonic | None
    data_cleared: Monotonic | None
    blamed: frozenset[SymptomKind]
    symptom_refuted: frozenset[SymptomKind]
    symptom_refuted_until: Monotonic | None
    canary: bool
    loopback: bool
    failures: Annotated[int, Limits(least=0, most=1000)]
    proved: frozenset[Text]

    def plausible(self, now: float) -> bool:
        """Whether no time in it is later than it can be."""
        ended = (self.since, self.flap[1], self.unblamed[1], self.stalls[1])
        ahead = (self.return_at, self.doubted_until, self.data_cleared, self.symptom_refuted_until)
        return max(ended) <= now and all(one is None or one <= now + _AHEAD_S for one in ahead)


def _encoded(memory: Memory, boot: str) -> bytes:
    state = memory.state
    document = MemoryDocument(
        boot=boot, mirror=memory.mirror, ping=memory.ping, health_state=state.health_state, since=state.since,
        reason=state.reason, evidence=state.evidence, cause=state.cause, was_well=state.was_well,
        was_local=state.local, foreign=state.owner is Owner.FOREIGN, origin=state.origin is True,
        ping_refuted=state.ping_refuted, sentinel_trusted=state.sentinel_trusted,
        flap=_settled(state.flap), unblamed=_settled(state.unblamed), stalls=_settled(state.stalls),
        return_at=_written(state.return_at),
        doubted=state.doubted, doubted_until=_written(state.doubted_until),
        data_cleared=_written(state.data_cleared), blamed=state.blamed,
        symptom_refuted=state.symptom_refuted, symptom_refuted_until=_written(state.symptom_refuted_until),
        canary=memory.canary, loopback=memory.reach.loopback, failures=memory.reach.failures,
        proved=frozenset(sorted(memory.reach.proved)[:100]),
    )  # fmt: skip
    return compact(to_document(document))


def _settled(flap: Flap) -> Settled:
    return flap.penalty, flap.at, flap.suppressed


def _flap(settled: Settled, policy: Policy) -> Flap:
    penalty, at, suppressed = settled
    return Flap(min(penalty, policy.flap_cap), at, suppressed)


def _written(value: float) -> float | None:
    return None if value == NEVER else value


def _read(value: float | None, most: float) -> float:
    return NEVER if value is None else min(value, most)


def _decoded(known: MemoryDocument, now: float, policy: Policy) -> Memory:
    bad = known.health_state in _BAD
    # What was under suspicion a moment ago is not well before it has shown so; what was well must show it
    # once more.
    kept = HealthState.DOWN if bad else HealthState.UNKNOWN
    if known.health_state is HealthState.PROBATION:
        kept = known.health_state
    state = State(
        health_state=kept,
        since=known.since if bad else 0.0,
        reason=known.reason if bad else State().reason,
        evidence=known.evidence if bad else "",
        cause=known.cause if bad else Cause.FIRST,
        was_well=known.was_well,
        local=known.was_local,
        owner=Owner.FOREIGN if known.foreign else Owner.UNKNOWN,
        origin=True if known.origin else None,  # until it was asked, which is done at once
        ping_refuted=known.ping_refuted,
        sentinel_trusted=known.sentinel_trusted,
        failed_at=now if bad else NEVER,
        flap=_flap(known.flap, policy),
        unblamed=_flap(known.unblamed, policy),
        stalls=replace(_flap(known.stalls, policy), penalty=min(known.stalls[0], 2.0)),
        return_at=_read(known.return_at, now + policy.return_delay_s),
        doubted=known.doubted,
        doubted_until=_read(known.doubted_until, now + policy.doubt_s),
        data_cleared=_read(known.data_cleared, now),
        blamed=known.blamed,
        symptom_refuted=known.symptom_refuted,
        symptom_refuted_until=_read(known.symptom_refuted_until, now + policy.symptom_refuted_s),
    )
    reach = Reach(known.loopback, known.failures, known.proved)
    return Memory(known.mirror, known.ping, state, known.canary, reach)


def known_to(memory: Memory | None, mirror: str, ping: str, origins: frozenset[str]) -> Memory:
    """What of it a session with this mirror and these origins knows.

    Registries that are in use no more vouch no more. That canaries came back is known all the same: a mirror
    that was found bad does not return for its pings alone. Where none comes back by the present ones, the
    probes tell so.
    """
    if memory is None or memory.mirror != mirror:
        return Memory(mirror, ping)
    state, reach = memory.state, memory.reach
    if memory.ping != ping:
        fresh = State()
        state = replace(
            state, oks=0, ping_ok=None, ping_soft=0, ping_late=0, ping_refuted=False,
            ping_pace=fresh.ping_pace
        )  # fmt: skip
    proved = reach.proved & origins
    if proved != reach.proved:
        reach = replace(reach, proved=proved)
    return Memory(mirror, ping, state, memory.canary, reach)


def adopted(state: State, left_s: float, now: float) -> State:
    """With the fence that a former session or run has left, where it is known why that is up; no fence
    otherwise."""
    if not left_s:
        return replace(state, fence=None)
    if state.fence is not None:
        return state
    bad = state.health_state in (HealthState.DOWN, HealthState.PROBATION)
    if not bad and not (state.was_well and state.pin is Route.ORIGIN):
        return state
    # That run had asked the origin.
    fence = RaisedFence(tentative=False, renewed=NEVER, since=now)
    return replace(state, fence=fence, origin=True if bad else state.origin)


def recall(status: str, now: float, health_state: HealthState = HealthState.UNKNOWN) -> tuple[Change, ...]:
    """The entries of a former run, oldest first, and one for this start; none where there was no such run.
    `health_state`: what is still known of the mirror.
    """
    document = Document(status, os.geteuid()).load()
    if document is None or (document.get("apiVersion"), document.get("kind")) != (
        API_VERSION,
        "DaemonStatus",
    ):
        return ()
    listed = document.get("history")
    found = [try_from_json(Change, one) for one in listed[-_RECALLED:]] if isinstance(listed, list) else []
    entries = tuple(one for one in found if one is not None)
    if not entries:
        return ()
    last = entries[-1]
    again = last.reason in (_STARTED, _WENT_ON)
    if again:  # and nothing has happened since: a crash loop must not fill the history
        entries = entries[:-1]
    before = last.from_ if again else last.to
    why = _STARTED if health_state is HealthState.UNKNOWN else _WENT_ON
    # Where reads go did not change by it.
    return (*entries, Change(now, before, health_state.value, last.route, why, "", last.route))
