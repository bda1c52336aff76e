"""The simulated agent stands for the real one: its rounds are held to the real Pinger's, its rest to the
machine.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace

import pytest

from agent.config.model import HealthConfig
from agent.daemon.http_client import Url
from agent.daemon.probes import Pinged, Pinger
from agent.daemon.tasks import task_group
from agent.health.evidence import (
    Failure,
    LoopLate,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Probe,
    Route,
    SentinelClosed,
)
from agent.health.policy import Policy
from agent.health.state import HealthState
from tests.bench.sim.agent import NEVER_S, Agent, Answer, Round, healthy, staggered, well
from tests.bench.sim.flaps import Flapping, switches

POLICY = Policy()
OK = Answer(0.002)
LOST = Answer(NEVER_S)
_LATE_S = 0.08


@dataclass
class Script:
    """What the attempts of a round meet, one after the other."""

    answers: tuple[Answer, ...]
    met: int = 0

    def attempt(self, at: float, _probe: Probe) -> Answer:
        self.met += 1
        return self.answers[self.met - 1]

    def owner(self, at: float) -> Owner:
        return Owner.OK


@dataclass
class Server:
    """The same on a real port."""

    answers: tuple[Answer, ...]
    met: int = 0
    held: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.held.append(writer)
        answer = self.answers[self.met]
        self.met += 1
        await reader.readuntil(b"\r\n\r\n")
        if answer.delay_s == NEVER_S:
            return
        await asyncio.sleep(answer.delay_s)
        status = b"500 No" if answer.failure else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")


async def _real(answers: tuple[Answer, ...]) -> tuple[Pinged, float, int]:
    server = Server(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = Url("127.0.0.1", listening.sockets[0].getsockname()[1], "/healthy")
    clock = asyncio.get_running_loop().time
    try:
        async with task_group() as tasks:
            pinger = Pinger(tasks, url, list[PingOk]().append, cap_s=POLICY.window_cap_s)
            started = clock()
            event = await pinger.ping(POLICY.window_s)
            took_s, met = clock() - started, server.met
            pinger.close()
        return event, took_s, met
    finally:
        for writer in server.held:
            writer.transport.abort()
        listening.close()
        await listening.wait_closed()


@pytest.mark.parametrize(
    "answers",
    [
        (OK,),
        (LOST, OK),
        (LOST, LOST, LOST, LOST, OK),
        (LOST,) * 5,
        (Answer(0.25), LOST, Answer(0.1)),
        (Answer(0.25), Answer(0.02)),
        (LOST, Answer(0.03, Failure.STATUS)),
        (Answer(0.7), LOST, LOST, LOST, Answer(0.3)),
    ],
)
async def test_a_modelled_round_ends_as_a_real_one(answers: tuple[Answer, ...]) -> None:
    script = Script(answers)
    modelled = staggered(script, 0.0, POLICY.window_s, POLICY.window_cap_s)
    event, took_s, met = await _real(answers)
    assert not isinstance(event, LoopLate)
    assert abs(took_s - modelled.ended) < _LATE_S
    assert met == script.met
    assert (event.failure if isinstance(event, PingFailed) else None) == modelled.failure


def test_a_round_of_five_lost_attempts_is_silence_at_the_window() -> None:
    assert staggered(Script((LOST,) * 5), 10.0, 0.6, 3.0) == Round(10.6, Failure.SILENT)
    late = staggered(Script((Answer(2.0), LOST, LOST, LOST, LOST)), 10.0, 0.6, 3.0)
    assert late == Round(10.6, Failure.SILENT, late=12.0)


@dataclass
class Well:
    def attempt(self, at: float, _probe: Probe) -> Answer:
        return OK

    def owner(self, at: float) -> Owner:
        return Owner.OK


def _agent(at: float = 100.0) -> Agent:
    agent = Agent(POLICY, Well(), random.Random(1), healthy(POLICY, at), at)
    agent.join()
    return agent


def test_an_agent_at_a_mirror_that_is_well_never_moves() -> None:
    agent = _agent()
    agent.run(160.0)
    assert (agent.state.health_state, agent.changes) == (HealthState.HEALTHY, [])
    assert agent.steps > 60 * (4 + 4 + 0.5)  # pings, ticks, canaries


def test_an_end_of_the_sentinel_is_fenced_and_a_clean_canary_lifts_it() -> None:
    agent = _agent()
    agent.meets(SentinelClosed("modelled"))
    agent.run(102.0)
    assert [route for _, route in agent.changes] == [Route.ORIGIN, Route.MIRROR]


def test_a_rest_is_skipped_only_where_nothing_changes() -> None:
    agent = _agent()
    agent.skip(5000.0, well)
    assert agent.now == 5000.0
    with pytest.raises(AssertionError, match="not at rest"):
        agent.skip(6000.0, lambda _at: (OwnerSeen(Owner.FOREIGN, ""),))
    with pytest.raises(AssertionError, match="ping_ok"):
        agent.skip(6000.0, lambda at: (PingFailed(at, Failure.SILENT, ""),))


def test_of_twenty_flaps_the_machine_lets_as_many_through_as_the_penalty_bears() -> None:
    health = HealthConfig(dwell_ms=0, rise=2)
    policy = Policy.of(health, return_delay_s=0, canary=True)
    mirror = Flapping(20, down_s=1.0, up_s=2.6)
    assert switches(mirror, policy) == 3
    assert switches(replace(mirror, count=2), policy) == 2
    assert switches(mirror, replace(policy, flap_suppress=1e9)) == 20, (
        "without damping each one moves the route"
    )
