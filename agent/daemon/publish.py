"""One picture of the daemon at one moment, the View, and what is told of it: status.json, /livez and /readyz,
and the first line of `systemctl status`. The metrics render it too. Times are seconds since the epoch.

The CLI answers from status.json, without root and without asking the daemon. It is written at each change and
every few seconds, by rename, so that a reader sees a whole document. No secrets.

/livez and /readyz have Kubernetes' form: machines read the status code, people `?verbose`. Ready means: reads
are served and protected, and the last proof failed nowhere. A node that reads from the origin
because the mirror is down works, and is ready; a node on which nothing was proved is not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.codec import compact, to_document, to_json
from agent.daemon.documents import LastProof, proof_of
from agent.documents.status import (
    Change,
    ConditionStatus,
    ContainerdStatus,
    DaemonStatus,
    FenceStatus,
    MirrorStatus,
    PenaltyStatus,
    PublishedOrigin,
    Return,
    Truth,
)
from agent.health.evidence import Mode, Owner, Route
from agent.health.policy import Policy
from agent.health.route import prospect, route, route_reason
from agent.health.state import HealthState, State, canary_window_s, decayed, held, is_patient, ping_window_s

if TYPE_CHECKING:
    from agent.daemon.drift import Drift
    from agent.daemon.lease import FenceLease
    from agent.daemon.session import Session

LIVE_WITHIN_S = 3.0
"""The loop gives a sign each second; an older one means that the daemon is stuck."""


def write(path: str, content: bytes, mode: int) -> None:
    """Replace the file; /run is memory, so nothing is synced. Raises OSError."""
    temporary = f"{path}.new"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode
    )
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(content)
    Path(temporary).replace(path)


class Encoder:
    """Makes the document's bytes. The history is by far its largest part and seldom changes: its text is
    kept."""

    def __init__(self) -> None:
        self._history: tuple[Change, ...] = ()
        self._text = b"[]"

    def encode(self, view: View) -> bytes:
        """The document as it is written and served."""
        if view.history != self._history:
            self._history, self._text = view.history, compact(to_json(view.history))
        head = compact(to_document(replace(view, history=()), DaemonStatus))
        return head.removesuffix(b"[]}") + self._text + b"}\n"


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One line of the answer."""

    name: str
    ok: bool
    text: str


def live(age_s: float) -> tuple[ReadinessCheck, ...]:
    """Whether the daemon's loop turns: `age_s` is its last sign's, by a clock that nobody sets."""
    return (ReadinessCheck("loop", age_s <= LIVE_WITHIN_S, f"turned {age_s:.1f} s ago"),)


def ready(view: View, age_s: float) -> tuple[ReadinessCheck, ...]:
    """Whether reads are served, protected and proved."""
    held = {condition.type: condition for condition in view.conditions if condition.holds}
    config = held.get("ConfigInvalid")
    fence_ok = view.mode is not Mode.FENCE or "FenceUnusable" not in held
    return (
        *live(age_s),
        ReadinessCheck("config", config is None, config.message if config else "valid"),
        ReadinessCheck("applied", view.mode is not Mode.UNKNOWN, view.mode_reason),
        ReadinessCheck("fence", fence_ok, view.fence.self_test_reason or f"mode {view.mode}"),
        ReadinessCheck("route", _served(view), f"{view.route}: {view.route_reason}"),
        ReadinessCheck(
            "proof", not view.proof.problem, view.proof.problem or "the last proof failed nowhere"
        ),
    )


def _served(view: View) -> bool:
    """Whether somebody answers reads: the mirror, or an origin that the route leads to."""
    if view.route is Route.ORIGIN:
        return view.origin is not False
    return view.health_state not in (HealthState.DOWN, HealthState.SUSPECT)


def render_checks(name: str, checks: tuple[ReadinessCheck, ...], *, verbose: bool) -> tuple[int, str]:
    """(HTTP status, body). A failure is verbose by itself."""
    good = all(check.ok for check in checks)
    if good and not verbose:
        return 200, "ok\n"
    lines = [_line(check) for check in checks]
    lines.append(f"{name} check {'passed' if good else 'failed'}")
    return (200 if good else 503), "\n".join(lines) + "\n"


def _line(check: ReadinessCheck) -> str:
    mark, word = ("+", "ok") if check.ok else ("-", "failed")
    return f"[{mark}]{check.name} {word}: {check.text}"


def sentence(view: View) -> str:
    """The first line of `systemctl status`."""
    if view.mode is Mode.UNKNOWN:
        return f"mirror {view.health_state}; {view.mode_reason}"
    return f"reads go to the {view.route}; mirror {view.health_state}: {view.health_reason}"


_MOST = 5
"""Findings in the condition's message; each is told by itself beside it."""


@dataclass(frozen=True, slots=True)
class Problems:
    """What is wrong with the service around the session; "" = nothing."""

    config: str = ""
    port_taken: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many took at most each of agent.daemon.record.BOUNDS_S (the last: any time), and their sum."""

    cumulative: tuple[int, ...]
    sum_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class View(DaemonStatus):
    """What is published as a document, and what only the metrics and readiness tell."""

    ping_times: Distribution
    canary_times: Distribution
    origin: bool | None = None
    """Whether an origin answers."""
    proof: LastProof = field(default_factory=LastProof)
    counts: tuple[tuple[str, tuple[str, ...], int], ...] = ()
    """(counter, labels' values, count), see agent.daemon.record."""
    route_seconds: tuple[tuple[Route, float], ...] = ()
    """For how long reads went each way since the daemon's start."""


def quiet(state: State) -> bool:
    """Whether nothing goes on that a reader follows second by second (a lease, the way back, a suspicion)."""
    return state.fence is None and state.health_state in (HealthState.HEALTHY, HealthState.UNKNOWN)


def marks(session: Session, drift: Drift, problems: Problems) -> tuple[object, ...]:
    """What readers must learn of at once when it is another than before. Ages, latencies and counters may
    wait."""
    state, lease = session.state, session.lease
    return (
        state.health_state, state.since, state.reason, state.mode, state.mode_reason, state.fence is None,
        state.fence_error, state.owner, state.origin, state.origin_detail, state.ping_refuted, state.want,
        session.results.ping.ok, session.results.canary.ok, session.owner_detail, lease.self_test,
        lease.self_test_reason, session.pin, session.proof.last, drift.changed, drift.findings, drift.gave_up,
        session.record.symptoms.problem, session.record.symptoms.total,
        lease.destroy_error, problems, round(time.time() - time.monotonic()),
    )  # fmt: skip


def view_of(session: Session, drift: Drift, problems: Problems) -> View:
    """The picture now. Conditions that changed are logged by the way."""
    state, record, now, mono = session.state, session.record, time.time(), time.monotonic()
    policy, where = session.policy, route(state)
    back = prospect(state, mono, policy, session.canaries.due_s)
    proof = proof_of(session.proof.load())
    record.drift(drift.findings, state.health_state, where)
    held = conditions(
        state, session.lease, drift, problems, symptoms=record.symptoms.problem,
        around=record.symptoms.go_around(state.lifted + policy.fallback_settle_s, mono),
        refused=record.symptoms.refused(mono) if policy.honour_refusals else "",
        unsteady=_unsteady(state, mono, policy),
    )  # fmt: skip
    return View(
        pid=os.getpid(), at=now, started_at=record.started_at,
        mode=state.mode, mode_reason=state.mode_reason,
        health_state=state.health_state, health_since=record.health_since, health_reason=state.reason,
        health_cause=state.cause, health_evidence=state.evidence,
        route=where, route_since=record.route_since, route_reason=route_reason(state),
        fence=_fence(session.lease, mono, active=state.fence is not None),
        mirror=_mirror(session),
        ping_times=record.ping_times.view(), canary_times=record.canary_times.view(),
        origins=tuple(
            PublishedOrigin(one.host, one.ok, None if one.at is None else now - mono + one.at, one.detail)
            for one in session.origins.seen.values()
        ),
        origin=state.origin, pin=session.pin, proof=proof, conditions=record.conditions(held),
        history=tuple(record.history), counts=record.counts.items(), route_seconds=record.routes.tick(where,
            mono),
        window_ms=round(ping_window_s(state, policy) * 1000),
        canary_window_ms=round(canary_window_s(state, policy) * 1000),
        penalty=_penalty(state, mono, policy), return_=Return(back.waits_for, back.seconds),
        symptoms=record.symptoms.view(),
        containerd=_containerd(session.lease), drift=drift.findings,
    )  # fmt: skip


def _mirror(session: Session) -> MirrorStatus:
    ping, canary = session.results.ping, session.results.canary
    return MirrorStatus(
        url=session.settings.mirror_url,
        ping_ok=ping.ok, ping_at=ping.at, ping_ms=ping.ms, ping_detail=ping.detail,
        canary_ok=canary.ok, canary_at=canary.at, canary_ms=canary.ms, canary_detail=canary.detail,
        owner=session.state.owner, owner_detail=session.owner_detail,
    )  # fmt: skip


def _fence(lease: FenceLease, mono: float, *, active: bool) -> FenceStatus:
    counters = lease.counters
    return FenceStatus(
        active=active, address=lease.address, port=lease.port,
        lease_left_ms=max(0, round((lease.until - mono) * 1000)) if lease.until else 0,
        refused_connects=counters.refused, raised=counters.raised, renewed=counters.renewed,
        destroyed_connections=counters.destroyed,
        self_test=lease.self_test, self_test_reason=lease.self_test_reason,
    )  # fmt: skip


def _containerd(lease: FenceLease) -> ContainerdStatus:
    counters = lease.counters
    return ContainerdStatus(counters.released_waiting, counters.released_stalled, counters.spared)


def _penalty(state: State, mono: float, policy: Policy) -> PenaltyStatus:
    flap = state.flap
    value = round(decayed(flap, mono, policy), 1)
    return PenaltyStatus(value, held(flap, mono, policy), policy.flap_reuse)


def _unsteady(state: State, mono: float, policy: Policy) -> str:
    """What the mirror does again and again and reads are not moved for."""
    if is_patient(state, mono, policy):
        return (
            f"the mirror has stalled again and again: reads leave it only when it is silent for "
            f"{policy.patience_s:g} s"
        )
    if mono - state.canary_borne_at < policy.doubt_s:
        return "a canary fails now and then: reads leave the mirror when two in succession do"
    return ""


def conditions(
    state: State,
    lease: FenceLease,
    drift: Drift,
    problems: Problems,
    *,
    symptoms: str,
    around: bool,
    refused: str,
    unsteady: str,
) -> Iterator[ConditionStatus]:
    """The problems that the daemon tells of besides the health state: each always listed, held or not.
    `symptoms`: why they are not seen ("" = they are); `around`: reads go around the mirror, by nydusd's own
    fallback; `refused`: the mirror refuses reads, which is honoured ("" = no); `unsteady`: what it does again
    and again without that reads are moved ("" = nothing).
    """
    fence = lease.self_test_reason if lease.self_test == "failed" else ""
    # Before the first apply nothing of ours uses the mirror: a node without Dragonfly lacks nothing.
    used = state.mode is not Mode.UNKNOWN
    bad = used and state.health_state in (HealthState.SUSPECT, HealthState.DOWN) and state.origin is False
    yield _condition("ConfigInvalid", problems.config, "the configuration on the disk is not the one in use",
                     problems.config)  # fmt: skip
    yield _condition("FenceUnusable", fence or state.fence_error, "SelfTestFailed" if fence else "NftRefused",
                     fence or state.fence_error)  # fmt: skip
    survive = lease.destroy_error if state.mode is Mode.FENCE else ""
    yield _condition("ConnectionsSurvive", survive, "nydusd's open connections could not be ended", survive)
    yield _condition("BothBad", bad, "MirrorAndOriginFail", f"{state.reason}; {state.origin_detail}")
    foreign = state.owner is Owner.FOREIGN
    yield _condition("ForeignListener", foreign, "WrongUser", state.reason)
    yield _condition("PingFails", state.ping_refuted, "DataPathWorks",
                     "ping_url fails although the mirror's data path works: is it right?")  # fmt: skip
    yield _condition("SymptomsUnknown", symptoms, "JournalNotFollowed",
                     f"what real reads meet is not seen: {symptoms}")  # fmt: skip
    # Where nothing is applied, reads may go around the mirror.
    goes = around and state.fence is None and state.mode is not Mode.UNKNOWN
    yield _condition("ReadsGoAround", goes, "NydusdFallsBack",
                     "nydusd takes reads to the origin by itself: the mirror refuses, resets, times out or "
                     "answers 5xx",
    )  # fmt: skip
    yield _condition("ReadsRefused", refused, "Honoured",
                     f'reads fail, as [mirror] refusals = "honour" wants it: {refused}')  # fmt: skip
    yield _condition("MirrorUnsteady", unsteady, "Borne", unsteady)
    want = f"the agent lacks what its probes need, so they say nothing: {state.want}"
    yield _condition("AgentInWant", state.want, "ProbesNotMade", want)
    yield _condition("EndpointPortTaken", problems.port_taken, "NNA1018", problems.port_taken)
    changed = ", ".join(drift.changed)
    yield _condition(
        "ChangedSinceProof", drift.changed, "FilesChanged", f"changed since the last proof: {changed}"
    )
    told, more = [one.what for one in drift.findings[:_MOST]], len(drift.findings) - _MOST
    told += [f"and {more} more"] if more > 0 else []
    yield _condition("Drift", drift.findings, "ChangedByOthers", "; ".join(told))
    yield _condition("RepairGaveUp", drift.gave_up, "UndoneAgain", "; ".join(drift.gave_up))


def _condition(kind: str, holds: object, reason: str, message: str) -> ConditionStatus:
    if not holds:
        return ConditionStatus(kind, Truth.FALSE)
    return ConditionStatus(kind, Truth.TRUE, reason, message)
