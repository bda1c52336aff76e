"""What the daemon and root's verbs have published, read defensively: status.json is written by an
unprivileged user, so its size is capped, links are not followed, and a value of another type than expected
counts as not there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from agent.commands.json_fields import JsonObject, number, table, tables, text, texts, truth, whole
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


def read_json(path: str) -> JsonObject | Unreadable | None:
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


def parsed(path: str, content: bytes) -> JsonObject | Unreadable:
    """The JSON object that came from `path`."""
    try:
        document = json_value(content)
    except ValueError:
        return Unreadable(path, "is not JSON")
    return document if isinstance(document, dict) else Unreadable(path, "is not a JSON object")


@dataclass(frozen=True, slots=True)
class Change:
    """A transition of health state or route."""

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
class ConditionStatus:
    """A condition; its type names the problem, so "True" is bad."""

    type: str
    status: str
    since: float | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PinStatus:
    """A route that an operator has pinned."""

    route: str
    until: float
    reason: str
    by: str
    at: float | None = None


def pin_of(data: JsonObject) -> PinStatus | None:
    """A pin, or None where it names no route or no end."""
    route, until = text(data, "route"), number(data, "until")
    if route not in ("mirror", "origin") or until is None:
        return None
    return PinStatus(route, until, text(data, "reason"), text(data, "by"), number(data, "at"))


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
class PublishedOrigin:
    """One registry that images come from."""

    host: str
    ok: bool | None
    at: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Return:
    """What must still happen until reads go (back) to the mirror, and the earliest time of that;

    None: not known.
    """

    waits_for: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class PenaltyStatus:
    """Flap damping: the penalty, whether it holds the mirror back, and below which value it no longer
    does.
    """

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
    health_state: str
    health_since: float | None
    health_reason: str
    route: str
    route_since: float | None
    route_reason: str
    fence: FenceStatus
    mirror: MirrorStatus
    origins: tuple[PublishedOrigin, ...]
    pin: PinStatus | None
    conditions: tuple[ConditionStatus, ...]
    history: tuple[Change, ...]
    health_cause: str = ""
    window_ms: float | None = None
    canary_window_ms: float | None = None
    return_: Return | None = None
    """None, as below: the daemon says nothing of it."""
    penalty: PenaltyStatus | None = None
    symptoms: SymptomsStatus | None = None
    health_evidence: str = ""
    drift: tuple[Finding, ...] = ()

    @property
    def evidence(self) -> str:
        """What the health state stands on; where the daemon does not say it, that of the transition to it."""
        latest = next((change for change in reversed(self.history) if change.to == self.health_state), None)
        return self.health_evidence or (latest.evidence if latest is not None else "")

    @property
    def mirror_address(self) -> str:
        """The mirror as ADDRESS:PORT."""
        return self.mirror.url.split("://")[-1].split("/")[0]


def daemon_status(data: JsonObject) -> DaemonStatus:
    """What status.json says."""
    return DaemonStatus(
        pid=whole(data, "pid"),
        at=number(data, "at"),
        started_at=number(data, "started_at"),
        mode=text(data, "mode", "unknown"),
        mode_reason=text(data, "mode_reason"),
        health_state=text(data, "health_state", "unknown"),
        health_since=number(data, "health_since"),
        health_reason=text(data, "health_reason"),
        route=text(data, "route", "unknown"),
        route_since=number(data, "route_since"),
        route_reason=text(data, "route_reason"),
        fence=_fence(table(data, "fence")),
        mirror=_mirror(table(data, "mirror")),
        origins=tuple(
            PublishedOrigin(text(item, "host"), truth(item, "ok"), number(item, "at"), text(item, "detail"))
            for item in tables(data, "origins")
        ),
        pin=pin_of(table(data, "pin")),
        conditions=tuple(
            ConditionStatus(text(item, "type"), text(item, "status"), number(item, "since"),
                      text(item, "reason"), text(item, "message"))
            for item in tables(data, "conditions")
        ),
        history=tuple(
            Change(number(item, "at") or 0.0, text(item, "from"), text(item, "to"), text(item, "route"),
                   text(item, "reason"), text(item, "evidence"), text(item, "route_from"), text(item,
                       "cause"))
            for item in tables(data, "history")
        ),
        health_cause=text(data, "health_cause"),
        window_ms=number(data, "window_ms"),
        canary_window_ms=number(data, "canary_window_ms"),
        return_=_return(table(data, "return")),
        penalty=_penalty(table(data, "penalty")),
        symptoms=_symptoms(table(data, "symptoms")),
        health_evidence=text(data, "health_evidence"),
        drift=decode_findings(data.get("drift")),
    )  # fmt: skip


def _return(data: JsonObject) -> Return | None:
    return Return(texts(data, "waits_for"), number(data, "seconds")) if data else None


def _penalty(data: JsonObject) -> PenaltyStatus | None:
    value, reuse = number(data, "value"), number(data, "reuse")
    return (
        None if value is None or reuse is None else PenaltyStatus(value, truth(data, "held") is True, reuse)
    )


def _symptoms(data: JsonObject) -> SymptomsStatus | None:
    watching = truth(data, "watching")
    if watching is None:
        return None
    counts, last = table(data, "counts"), table(data, "last")
    return SymptomsStatus(
        watching, text(data, "problem"), {kind: whole(counts, kind) for kind in list(counts)[:20]},
        text(last, "kind"), text(last, "detail"), number(last, "at"),
    )  # fmt: skip


def _fence(data: JsonObject) -> FenceStatus:
    return FenceStatus(
        truth(data, "active"), text(data, "address"), whole(data, "port"), whole(data, "lease_left_ms"),
        whole(data, "refused_connects"), text(data, "self_test", "not-run"), text(data, "self_test_reason"),
        whole(data, "destroyed_connections"),
    )  # fmt: skip


def _mirror(data: JsonObject) -> MirrorStatus:
    return MirrorStatus(
        text(data, "url"),
        truth(data, "ping_ok"), number(data, "ping_at"), number(data, "ping_ms"), text(data, "ping_detail"),
        truth(data, "canary_ok"), number(data, "canary_at"), number(data, "canary_ms"), text(data,
            "canary_detail"),
        text(data, "owner", "unknown"), text(data, "owner_detail"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """One check of the last proof."""

    number: int
    name: str
    state: str
    detail: str
    code: str
    cause: str
    evidence: tuple[str, ...]
    try_: str


@dataclass(frozen=True, slots=True)
class ProofStatus:
    """The last proof."""

    at: float | None
    checks: tuple[CheckStatus, ...]
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
    def failed(self) -> tuple[CheckStatus, ...]:
        """Checks that failed, lowest first."""
        return tuple(check for check in self.checks if check.state == "failed")


def proof_status_of(data: JsonObject) -> ProofStatus:
    """What proof.json says; an unknown state counts as unknown."""
    checks = tuple(
        CheckStatus(whole(item, "number"), text(item, "name"),
             state if (state := text(item, "state")) in ("ok", "failed", "not-proved") else "unknown",
             text(item, "detail"), text(item, "code"), text(item, "cause"), texts(item, "evidence"),
             text(item, "try"))
        for item in tables(data, "checks")
    )  # fmt: skip
    versions = {name: value for name, value in table(data, "versions").items() if isinstance(value, str)}
    in_order = tuple(sorted(checks, key=lambda check: check.number))
    return ProofStatus(
        number(data, "at"), in_order, texts(data, "drift"), versions, texts(data, "pending"),
        texts(data, "unrenewed"), texts(data, "unseen"),
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


def effective_of(data: JsonObject) -> EffectiveStatus:
    """What effective.json says."""
    return EffectiveStatus(
        number(data, "at"), whole(data, "generation"), text(data, "switch", "unknown"), text(data, "dialect"),
        truth(data, "use_http"), texts(data, "reasons"), texts(data, "not_accelerated"),
        whole(data, "rolled_back_to"),
    )  # fmt: skip
