"""Makes the View: what a session, its fence and the record know, at one moment."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

from agent.daemon.conditions import conditions
from agent.daemon.documents import proof_of
from agent.daemon.loop import Session
from agent.daemon.view import Containerd, FenceView, Penalty, View
from agent.health import damping, patience
from agent.health.policy import Policy
from agent.health.prospect import prospect
from agent.health.route import route, route_reason
from agent.health.state import HealthState, State


@dataclass(frozen=True, slots=True)
class Problems:
    """What is wrong with the service around the session; "" = nothing."""

    config: str = ""
    port_taken: str = ""


def quiet(session: Session) -> bool:
    """Whether nothing goes on that a reader follows second by second (a lease, the way back, a suspicion)."""
    state = session.state
    return state.fence is None and state.health_state in (HealthState.HEALTHY, HealthState.UNKNOWN)


def marks(session: Session, problems: Problems) -> tuple[object, ...]:
    """What readers must learn of at once when it is another than before. Ages, latencies and counters may wait."""
    state, keeper = session.state, session.keeper
    return (
        state.health_state, state.since, state.reason, state.mode, state.mode_reason, state.fence is None,
        state.fence_error, state.owner, state.origin, state.origin_detail, state.ping_refuted, state.want,
        session.results.ping.ok, session.results.canary.ok, session.owner_detail, session.self_test,
        session.self_test_reason, session.pin,
        session.proof.last, session.drift.changed, session.drift.findings, session.drift.gave_up,
        session.record.symptoms.problem, session.record.symptoms.total,
        keeper.destroy_error, problems, round(time.time() - time.monotonic()),
    )  # fmt: skip


def view_of(session: Session, problems: Problems) -> View:
    """The picture now. Conditions that changed are logged by the way."""
    state, record, now, mono = session.state, session.record, time.time(), time.monotonic()
    policy, where = session.policy, route(state)
    proof = proof_of(session.proof.load())
    record.drift(session.drift.findings, state.health_state, where)
    held = conditions(
        state, session.keeper, session.drift, config=problems.config, port_taken=problems.port_taken,
        fence=session.self_test_reason if session.self_test == "failed" else "", symptoms=record.symptoms.problem,
        around=record.symptoms.go_around(state.lifted + policy.fallback_settle_s, mono),
        refused=record.symptoms.refused(mono) if policy.honour_refusals else "",
    )  # fmt: skip
    return View(
        pid=os.getpid(), at=now, started_at=record.started_at,
        mode=state.mode, mode_reason=state.mode_reason,
        health_state=state.health_state, health_since=record.health_since, health_reason=state.reason,
        health_cause=state.cause, health_evidence=state.evidence,
        route=where, route_since=record.route_since, route_reason=route_reason(state),
        fence=_fence(session, mono),
        mirror_url=session.settings.mirror_url, ping=session.results.ping, canary=session.results.canary,
        ping_times=record.ping_times.view(), canary_times=record.canary_times.view(),
        owner=state.owner, owner_detail=session.owner_detail,
        origins=tuple(
            replace(seen, at=None if seen.at is None else now - mono + seen.at)
            for seen in session.origins.seen.values()
        ),
        origin=state.origin, pin=session.pin, proof=proof, conditions=record.conditions(held),
        history=tuple(record.history), counts=record.counts.items(), route_seconds=record.routes.tick(where, mono),
        window_s=patience.ping_window_s(state, policy), canary_window_s=patience.canary_window_s(state, policy),
        penalty=_penalty(state, mono, policy), back=prospect(state, mono, policy), symptoms=record.symptoms.view(),
        containerd=_containerd(session), drift=session.drift.findings,
    )  # fmt: skip


def _fence(session: Session, mono: float) -> FenceView:
    keeper = session.keeper
    counters = keeper.counters
    return FenceView(
        active=session.state.fence is not None, address=keeper.address, port=keeper.port,
        lease_left_ms=max(0, round((keeper.until - mono) * 1000)) if keeper.until else 0,
        refused=counters.refused, raised=counters.raised, renewed=counters.renewed, destroyed=counters.destroyed,
        self_test=session.self_test, self_test_reason=session.self_test_reason,
    )  # fmt: skip


def _containerd(session: Session) -> Containerd:
    counters = session.keeper.counters
    return Containerd(counters.released_waiting, counters.released_stalled, counters.spared)


def _penalty(state: State, mono: float, policy: Policy) -> Penalty:
    flap = state.flap
    return Penalty(damping.decayed(flap, mono, policy), damping.held(flap, mono, policy), policy.flap_reuse)
