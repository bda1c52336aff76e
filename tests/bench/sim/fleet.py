"""A fleet in an outage: each node with the real machine, a mirror that is dead or hung everywhere, and its
return.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from agent.config.model import HealthConfig
from agent.health.evidence import (
    CanaryFailed,
    Event,
    Failure,
    OriginSeen,
    OwnerSeen,
    PingFailed,
    Route,
    SentinelClosed,
    Tick,
)
from agent.health.owner import Owner
from agent.health.policy import Policy
from agent.health.route import route
from agent.health.state import HealthState, State
from tests.bench.sim.agent import NEVER_S, WELL_S, Agent, Answer, Events, healthy
from tests.bench.sim.agent import well as quiet

OUTAGE_S = 600.0
"""From the mirror's end at 0 until it is well again."""
_END_OF_FILE_S = 0.013
"""From SIGKILL of a server with 200 MB until its connections end (measured: 12.6 ms)."""
_DOWN_BY_S = 10.0
_SETTLE_S = 2.0
_BEFORE_S = 0.6
"""Before its slot a node is stepped again, for two rounds at least."""
_ADOPTED_S = 9.0
"""What a restarted agent finds left of a lease of 10 s that is renewed each second."""
_DEAD_S = 0.0002


@dataclass(frozen=True)
class Fault:
    """A mirror that is away until OUTAGE_S: refused (its process is gone) or hung (it answers nothing)."""

    refused: bool

    def attempt(self, at: float) -> Answer:
        if at >= OUTAGE_S:
            return Answer(WELL_S)
        return Answer(_DEAD_S, Failure.REFUSED) if self.refused else Answer(NEVER_S)

    def owner(self, at: float) -> Owner:
        return Owner.NONE if self.refused and at < OUTAGE_S else Owner.OK


@dataclass(frozen=True)
class Departure:
    """How a node's route came to the origin: when, when the origin was asked, and its state at rest there."""

    left: float
    asked_origin: tuple[float, ...]
    state: State


def policy(return_delay_s: float) -> Policy:
    """The default configuration's, with this node's delay."""
    return Policy.of(HealthConfig(), return_delay_s=return_delay_s, canary=True)


def well() -> State:
    """A node that has long been at the mirror when the mirror ends (at 0)."""
    return healthy(policy(0.0), -10.0)


def leave(fault: Fault, rng: random.Random, before: State) -> Departure:
    """The mirror ends at 0; the node's agent brings the route to the origin and comes to rest there."""
    agent = Agent(policy(0.0), fault, rng, before, 0.0)
    agent.join()
    if fault.refused:
        agent.run(_END_OF_FILE_S)
        agent.meets(SentinelClosed("modelled"))
    agent.run(_DOWN_BY_S, lambda: agent.state.health_state is HealthState.DOWN)
    agent.run(agent.now + _SETTLE_S)
    _expect(agent, HealthState.DOWN, Route.ORIGIN)
    agent.skip(OUTAGE_S, _down(fault))
    return Departure(agent.changes[0][0], tuple(agent.origin_asked), agent.state)


def come_back(departed: State, return_delay_s: float, rng: random.Random) -> float:
    """When the route of a node that was at the origin at the mirror's return is the mirror again."""
    agent = Agent(policy(return_delay_s), Fault(refused=True), rng, departed, OUTAGE_S)
    agent.join()
    return _back(agent)


def restart_fenced(at: float, return_delay_s: float, rng: random.Random) -> float:
    """The same for an agent that starts anew at this time and finds the fence that the former one left."""
    agent = Agent(policy(return_delay_s), Fault(refused=True), rng, State(), at)
    agent.begin(_ADOPTED_S)
    return _back(agent)


def restart_well(at: float, return_delay_s: float, rng: random.Random) -> Agent:
    """An agent that starts anew beside a mirror that is well, some seconds later."""
    agent = Agent(policy(return_delay_s), Fault(refused=True), rng, State(), at)
    agent.begin()
    agent.run(at + _SETTLE_S)
    return agent


def _back(agent: Agent) -> float:
    agent.run(agent.now + 60.0, lambda: agent.state.health_state is not HealthState.DOWN)
    if agent.state.return_at - agent.now > 2 * _BEFORE_S:
        agent.skip(agent.state.return_at - _BEFORE_S, quiet)
    agent.run(agent.now + 60.0, lambda: route(agent.state) is Route.MIRROR)
    _expect(agent, HealthState.HEALTHY, Route.MIRROR)
    return agent.changes[-1][0]


def _expect(agent: Agent, health_state: HealthState, route: Route) -> None:
    if agent.state.health_state is not health_state or not agent.changes or agent.changes[-1][1] is not route:
        raise AssertionError(
            f"{agent.state.health_state} ({agent.state.reason}) at {agent.now:.1f} s, {agent.changes}"
        )


def _down(fault: Fault) -> Events:
    failure = Failure.REFUSED if fault.refused else Failure.SILENT

    def events(at: float) -> tuple[Event, ...]:
        return (
            PingFailed(at, failure, "modelled"),
            CanaryFailed(at, failure, "modelled"),
            OwnerSeen(fault.owner(0.0), "modelled"),
            OriginSeen(good=True, detail="modelled"),
            Tick(),
        )

    return events
