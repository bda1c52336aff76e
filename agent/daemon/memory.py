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
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import API_VERSION
from agent.daemon.documents import Document, Loose
from agent.documents.status import Change
from agent.health.damping import Flap
from agent.health.evidence import Route, SymptomKind
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.state import NEVER, Accuser, Cause, HealthState, RaisedFence, State
from agent.node.moment import present

KIND = "DaemonMemory"
_AHEAD_S = 86400.0
"""Nothing that is remembered ends later than this: what is further off makes no sense."""
_LATEST = 1e15
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
        document = Document(self._path, os.geteuid()).load()
        if document is None or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
            return None
        if not self._here() or document.get("boot") != self._here():
            return None
        try:
            return _decoded(document, now, policy)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def save(self, memory: Memory) -> None:
        """Write it where it says something new.

        Where that cannot be done, the next run knows less; no more.
        """
        last = self._last
        if last is not None and memory.state is last.state and memory.reach is last.reach and memory == last:
            return  # so it is each second, on most days
        content = json.dumps(_encoded(memory, self._here()), separators=(",", ":")).encode()
        with contextlib.suppress(OSError):  # no room in /run: the next time tries again
            if content != self._written:
                _write(self._path, content)
            self._written, self._last = content, memory

    def _here(self) -> str:
        if not self._boot:
            self._boot = present().boot
        return self._boot


def _write(path: str, content: bytes) -> None:
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # noqa: PTH108 - what another run has left
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    with open(descriptor, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)


def _encoded(memory: Memory, boot: str) -> dict[str, object]:
    state = memory.state
    return {
        "apiVersion": API_VERSION, "kind": KIND, "boot": boot, "mirror": memory.mirror, "ping": memory.ping,
        "health_state": state.health_state.value, "since": state.since, "reason": state.reason,
        "evidence": state.evidence, "cause": state.cause.value, "was_well": state.was_well,
        "was_local": state.local,
        "foreign": state.owner is Owner.FOREIGN, "origin": state.origin is True,
        "ping_refuted": state.ping_refuted, "sentinel_trusted": state.sentinel_trusted,
        "flap": _flap(state.flap), "unblamed": _flap(state.unblamed), "return_at": _time(state.return_at),
        "doubted": sorted(state.doubted), "doubted_until": _time(state.doubted_until),
        "data_cleared": _time(state.data_cleared), "blamed": sorted(state.blamed),
        "symptom_refuted": sorted(state.symptom_refuted),
        "symptom_refuted_until": _time(state.symptom_refuted_until),
        "canary": memory.canary, "loopback": memory.reach.loopback, "failures": memory.reach.failures,
        "proved": sorted(memory.reach.proved)[:100],
    }  # fmt: skip


def _flap(flap: Flap) -> list[object]:
    return [flap.penalty, flap.at, flap.suppressed]


def _time(value: float) -> float | None:
    return None if value == NEVER else value


def _decoded(document: Loose, now: float, policy: Policy) -> Memory:
    """Raises KeyError, TypeError and ValueError for whatever makes no sense."""
    read = _Reader(document, now)
    health_state = HealthState(read.text("health_state"))
    bad = health_state in _BAD
    # What was under suspicion a moment ago is not well before it has shown so; what was well must show it
    # once more.
    kept = HealthState.DOWN if bad else HealthState.UNKNOWN
    if health_state is HealthState.PROBATION:
        kept = health_state
    state = State(
        health_state=kept,
        since=read.moment("since") if bad else 0.0,
        reason=read.text("reason") if bad else State().reason,
        evidence=read.text("evidence") if bad else "",
        cause=Cause(read.text("cause")) if bad else Cause.FIRST,
        was_well=read.flag("was_well"),
        local=read.flag("was_local"),
        owner=Owner.FOREIGN if read.flag("foreign") else Owner.UNKNOWN,
        origin=True if read.flag("origin") else None,  # until it was asked, which is done at once
        ping_refuted=read.flag("ping_refuted"),
        sentinel_trusted=read.flag("sentinel_trusted"),
        failed_at=now if bad else NEVER,
        flap=read.flap("flap", policy),
        unblamed=read.flap("unblamed", policy),
        return_at=min(read.time("return_at"), now + policy.return_delay_s),
        doubted=frozenset(Accuser(one) for one in read.texts("doubted")),
        doubted_until=min(read.time("doubted_until"), now + policy.doubt_s),
        data_cleared=min(read.time("data_cleared"), now),
        blamed=frozenset(SymptomKind(one) for one in read.texts("blamed")),
        symptom_refuted=frozenset(SymptomKind(one) for one in read.texts("symptom_refuted")),
        symptom_refuted_until=min(read.time("symptom_refuted_until"), now + policy.symptom_refuted_s),
    )
    reach = Reach(read.flag("loopback"), read.count("failures"), frozenset(read.texts("proved")))
    return Memory(read.text("mirror"), read.text("ping"), state, read.flag("canary"), reach)


class _Reader:
    def __init__(self, document: Loose, now: float) -> None:
        self._document = document
        self._now = now

    def text(self, key: str) -> str:
        value = self._document[key]
        if not isinstance(value, str):
            raise TypeError(key)
        return value[:1000]

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._document[key]
        if not isinstance(value, list) or len(value) > 100 or not all(isinstance(one, str) for one in value):
            raise TypeError(key)
        return tuple(one[:1000] for one in value)

    def flag(self, key: str) -> bool:
        value = self._document[key]
        if not isinstance(value, bool):
            raise TypeError(key)
        return value

    def count(self, key: str) -> int:
        value = self._document[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1000:
            raise TypeError(key)
        return value

    def time(self, key: str) -> float:
        return NEVER if self._document[key] is None else self._number(self._document[key])

    def moment(self, key: str) -> float:
        found = self._number(self._document[key])
        if found > self._now:
            raise ValueError(key)
        return found

    def flap(self, key: str, policy: Policy) -> Flap:
        value = self._document[key]
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[2], bool):
            raise TypeError(key)
        penalty, at = self._number(value[0]), self._number(value[1])
        if not penalty >= 0 or at > self._now:
            raise ValueError(key)
        return Flap(min(penalty, policy.flap_cap), at, value[2])

    def _number(self, value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value <= self._now + _AHEAD_S
        ):
            raise ValueError(value)
        return float(value)


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
    entries = tuple(_entries(listed[-_RECALLED:])) if isinstance(listed, list) else ()
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


def _entries(listed: list[object]) -> Iterator[Change]:
    for item in listed:
        at = item.get("at") if isinstance(item, dict) else None
        if (
            isinstance(item, dict)
            and not isinstance(at, bool)
            and isinstance(at, (int, float))
            and 0 < at < _LATEST
        ):
            yield Change(
                float(at), _text(item, "from"), _text(item, "to"), _text(item, "route"), _text(item,
                    "reason"),
                _text(item, "evidence"), _text(item, "route_from"), _text(item, "cause"),
            )  # fmt: skip


def _text(item: Loose, key: str) -> str:
    value = item.get(key)
    return value[:1000] if isinstance(value, str) else ""
