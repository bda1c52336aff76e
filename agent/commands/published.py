"""What the daemon and root's verbs have published, read defensively: status.json is written by an unprivileged user, so
its size is capped, links are not followed, and a value of another type than expected counts as not there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from agent.commands.loose import Loose, number, table, tables, text, texts, truth, whole
from agent.outside_json import json_value
from agent.plan.drift import Finding
from agent.plan.drift_form import decode_findings

SIZE_CAP = 1 << 20  # bytes; a status is a few thousand


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file is there but could not be read or understood."""

    path: str
    reason: str
    permission: bool = False


def read_json(path: str) -> Loose | Unreadable | None:
    """A JSON object; None: no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unreadable(path, error.strerror or str(error), isinstance(error, PermissionError))
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            return Unreadable(path, "is not a regular file")
        if seen.st_size > SIZE_CAP:
            return Unreadable(path, f"is larger than {SIZE_CAP} bytes")
        content = os.read(descriptor, SIZE_CAP)
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    finally:
        os.close(descriptor)
    return parsed(path, content)


def parsed(path: str, content: bytes) -> Loose | Unreadable:
    """The JSON object that came from `path`."""
    try:
        document = json_value(content)
    except ValueError:
        return Unreadable(path, "is not JSON")
    return document if isinstance(document, dict) else Unreadable(path, "is not a JSON object")


@dataclass(frozen=True, slots=True)
class Change:
    """A transition of verdict or route."""

    at: float
    from_: str
    to: str
    route: str
    reason: str
    evidence: str
    route_from: str = ""
    """ "" where it is not known."""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition; its type names the problem, so "True" is bad."""

    type: str
    status: str
    since: float | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pin:
    """A route that an operator has pinned."""

    route: str
    until: float
    reason: str
    by: str
    at: float | None = None


def pin_of(loose: Loose) -> Pin | None:
    """A pin, or None where it names no route or no end."""
    route, until = text(loose, "route"), number(loose, "until")
    if route not in ("mirror", "origin") or until is None:
        return None
    return Pin(route, until, text(loose, "reason"), text(loose, "by"), number(loose, "at"))


@dataclass(frozen=True, slots=True)
class FenceStatus:
    """The fence as the daemon holds it."""

    active: bool | None
    address: str
    port: int
    lease_left_ms: int
    refused_connects: int
    self_test: str
    self_test_reason: str
    destroyed: int = 0
    """Connections that were ended since the daemon's start."""


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """The mirror as the daemon's probes see it."""

    url: str
    ping_ok: bool | None
    ping_at: float | None
    ping_ms: float | None
    ping_detail: str
    canary_ok: bool | None
    canary_at: float | None
    canary_ms: float | None
    canary_detail: str
    owner: str
    owner_detail: str


@dataclass(frozen=True, slots=True)
class OriginStatus:
    """One registry that images come from."""

    host: str
    ok: bool | None
    at: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Return:
    """What must still happen until reads go (back) to the mirror, and the earliest time of that; None: not known."""

    waits_for: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Penalty:
    """Flap damping: the penalty, whether it holds the mirror back, and below which value it no longer does."""

    value: float
    held: bool
    reuse: float


@dataclass(frozen=True, slots=True)
class SymptomsStatus:
    """What real reads have told."""

    watching: bool
    problem: str
    counts: Mapping[str, int]
    last_kind: str
    last_detail: str
    last_at: float | None


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon's last publication. Times are seconds since the epoch, None where they are not known."""

    pid: int
    at: float | None
    started_at: float | None
    mode: str
    mode_reason: str
    verdict: str
    verdict_since: float | None
    verdict_reason: str
    route: str
    route_since: float | None
    route_reason: str
    fence: FenceStatus
    mirror: MirrorStatus
    origins: tuple[OriginStatus, ...]
    pin: Pin | None
    conditions: tuple[Condition, ...]
    history: tuple[Change, ...]
    verdict_cause: str = ""
    window_ms: float | None = None
    canary_window_ms: float | None = None
    return_: Return | None = None
    """None, as below: the daemon says nothing of it."""
    penalty: Penalty | None = None
    symptoms: SymptomsStatus | None = None
    verdict_evidence: str = ""
    drift: tuple[Finding, ...] = ()

    @property
    def evidence(self) -> str:
        """What the verdict stands on; where the daemon does not say it, that of the transition to the verdict."""
        latest = next((change for change in reversed(self.history) if change.to == self.verdict), None)
        return self.verdict_evidence or (latest.evidence if latest is not None else "")

    @property
    def mirror_address(self) -> str:
        """The mirror as ADDRESS:PORT."""
        return self.mirror.url.split("://")[-1].split("/")[0]


def daemon_status(loose: Loose) -> DaemonStatus:
    """What status.json says."""
    return DaemonStatus(
        pid=whole(loose, "pid"),
        at=number(loose, "at"),
        started_at=number(loose, "started_at"),
        mode=text(loose, "mode", "unknown"),
        mode_reason=text(loose, "mode_reason"),
        verdict=text(loose, "verdict", "unknown"),
        verdict_since=number(loose, "verdict_since"),
        verdict_reason=text(loose, "verdict_reason"),
        route=text(loose, "route", "unknown"),
        route_since=number(loose, "route_since"),
        route_reason=text(loose, "route_reason"),
        fence=_fence(table(loose, "fence")),
        mirror=_mirror(table(loose, "mirror")),
        origins=tuple(
            OriginStatus(text(item, "host"), truth(item, "ok"), number(item, "at"), text(item, "detail"))
            for item in tables(loose, "origins")
        ),
        pin=pin_of(table(loose, "pin")),
        conditions=tuple(
            Condition(text(item, "type"), text(item, "status"), number(item, "since"),
                      text(item, "reason"), text(item, "message"))
            for item in tables(loose, "conditions")
        ),
        history=tuple(
            Change(number(item, "at") or 0.0, text(item, "from"), text(item, "to"), text(item, "route"),
                   text(item, "reason"), text(item, "evidence"), text(item, "route_from"), text(item, "cause"))
            for item in tables(loose, "history")
        ),
        verdict_cause=text(loose, "verdict_cause"),
        window_ms=number(loose, "window_ms"),
        canary_window_ms=number(loose, "canary_window_ms"),
        return_=_return(table(loose, "return")),
        penalty=_penalty(table(loose, "penalty")),
        symptoms=_symptoms(table(loose, "symptoms")),
        verdict_evidence=text(loose, "verdict_evidence"),
        drift=decode_findings(loose.get("drift")),
    )  # fmt: skip


def _return(loose: Loose) -> Return | None:
    return Return(texts(loose, "waits_for"), number(loose, "seconds")) if loose else None


def _penalty(loose: Loose) -> Penalty | None:
    value, reuse = number(loose, "value"), number(loose, "reuse")
    return None if value is None or reuse is None else Penalty(value, truth(loose, "held") is True, reuse)


def _symptoms(loose: Loose) -> SymptomsStatus | None:
    watching = truth(loose, "watching")
    if watching is None:
        return None
    counts, last = table(loose, "counts"), table(loose, "last")
    return SymptomsStatus(
        watching, text(loose, "problem"), {kind: whole(counts, kind) for kind in list(counts)[:20]},
        text(last, "kind"), text(last, "detail"), number(last, "at"),
    )  # fmt: skip


def _fence(loose: Loose) -> FenceStatus:
    return FenceStatus(
        truth(loose, "active"), text(loose, "address"), whole(loose, "port"), whole(loose, "lease_left_ms"),
        whole(loose, "refused_connects"), text(loose, "self_test", "not-run"), text(loose, "self_test_reason"),
        whole(loose, "destroyed_connections"),
    )  # fmt: skip


def _mirror(loose: Loose) -> MirrorStatus:
    return MirrorStatus(
        text(loose, "url"),
        truth(loose, "ping_ok"), number(loose, "ping_at"), number(loose, "ping_ms"), text(loose, "ping_detail"),
        truth(loose, "canary_ok"), number(loose, "canary_at"), number(loose, "canary_ms"), text(loose, "canary_detail"),
        text(loose, "owner", "unknown"), text(loose, "owner_detail"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the last climb."""

    number: int
    name: str
    state: str
    detail: str
    code: str
    cause: str
    evidence: tuple[str, ...]
    try_: str


@dataclass(frozen=True, slots=True)
class Climb:
    """The last climb of the ladder of proof."""

    at: float | None
    rungs: tuple[Rung, ...]
    drift: tuple[str, ...]
    """What others have changed that is ours, in words."""
    versions: Mapping[str, str]
    pending: tuple[str, ...] = ()
    """What the configuration wants other than was applied, in words."""
    unrenewed: tuple[str, ...] = ()
    """Images in use whose credential expires and is not renewed."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at for drift, each with the reason."""

    @property
    def failed(self) -> tuple[Rung, ...]:
        """Rungs that failed, lowest first."""
        return tuple(rung for rung in self.rungs if rung.state == "failed")


def climb_of(loose: Loose) -> Climb:
    """What climb.json says; an unknown state counts as unknown."""
    rungs = tuple(
        Rung(whole(item, "number"), text(item, "name"),
             state if (state := text(item, "state")) in ("ok", "failed", "not-proved") else "unknown",
             text(item, "detail"), text(item, "code"), text(item, "cause"), texts(item, "evidence"), text(item, "try"))
        for item in tables(loose, "rungs")
    )  # fmt: skip
    versions = {name: value for name, value in table(loose, "versions").items() if isinstance(value, str)}
    in_order = tuple(sorted(rungs, key=lambda rung: rung.number))
    return Climb(
        number(loose, "at"), in_order, texts(loose, "drift"), versions, texts(loose, "pending"),
        texts(loose, "unrenewed"), texts(loose, "unseen"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EffectiveStatus:
    """What "auto" came to when the node was changed."""

    at: float | None
    generation: int
    switch: str
    dialect: str
    use_http: bool | None
    reasons: tuple[str, ...]
    not_accelerated: tuple[str, ...]
    rolled_back_to: int = 0
    """The generation whose state it is, where it is a rollback; else 0."""


def effective_of(loose: Loose) -> EffectiveStatus:
    """What effective.json says."""
    return EffectiveStatus(
        number(loose, "at"), whole(loose, "generation"), text(loose, "switch", "unknown"), text(loose, "dialect"),
        truth(loose, "use_http"), texts(loose, "reasons"), texts(loose, "not_accelerated"),
        whole(loose, "rolled_back_to"),
    )  # fmt: skip
