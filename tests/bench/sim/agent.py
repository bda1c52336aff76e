"""One node's daemon in virtual time: the real health machine, fed as agent/daemon feeds it.

What stands here is the schedule of the daemon's session and canaries and the rounds of its probes, on a clock
that jumps from one event to the next. The daemon's pings, canaries and ticks begin with one ticker; here each
kind has one of its own, of the same length: losses that are independent, and stalls that are longer than a
tick, cannot tell them apart. Health states, fences and delays are the machine's.
tests/unit/test_bench_agent.py holds the model of a round to the real Pinger.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeAlias

from agent.daemon.probes import ATTEMPTS, stagger_s
from agent.daemon.session import CHORES_S
from agent.daemon.tasks import TICK_S
from agent.health.evidence import (
    Adopted,
    CanaryFailed,
    CanaryOk,
    Event,
    Failure,
    Mode,
    ModeChanged,
    OriginSeen,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Probe,
    Route,
    Tick,
)
from agent.health.machine import step
from agent.health.policy import Policy
from agent.health.route import route
from agent.health.state import (
    AskCanary,
    AskOrigin,
    AskOwner,
    ExtendFence,
    HealthState,
    State,
    canary_window_s,
    ping_window_s,
)

NEVER_S = float("inf")
WELL_S = 0.002
"""What an answer of a mirror that is well takes."""
_ORIGIN_S = 0.02
"""An origin that is well answers after this long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt of a probe meets: a good answer after `delay_s` (NEVER_S: none), or a failure after
    it.
    """

    delay_s: float
    failure: Failure | None = None


class Mirror(Protocol):
    """The mirror as probes see it."""

    def attempt(self, at: float, probe: Probe) -> Answer:
        """An attempt of this probe that begins at this time."""

    def owner(self, at: float) -> Owner:
        """Who holds its port."""


@dataclass(frozen=True, slots=True)
class Round:
    """How a round of staggered attempts ended, and when; `late`: when a good answer came after the window."""

    ended: float
    failure: Failure | None
    late: float = NEVER_S


def staggered(
    mirror: Mirror, started: float, window_s: float, cap_s: float, probe: Probe = Probe.PING
) -> Round:
    """A round as the daemon makes it: a further attempt after each stagger without an answer, the first
    answer or hard failure ends it, silence ends it at the window. What comes later, up to `cap_s`, is looked
    at too.
    """
    end, first, failure = started + window_s, NEVER_S, None
    for number in range(ATTEMPTS):
        at = started + number * stagger_s(window_s)
        if at >= min(end, first):
            break
        answer = mirror.attempt(at, probe)
        if at + answer.delay_s < first:
            first, failure = at + answer.delay_s, answer.failure
    if first <= end:
        return Round(first, failure)
    return Round(end, Failure.SILENT, first if failure is None and first <= started + cap_s else NEVER_S)


Events: TypeAlias = Callable[[float], tuple[Event, ...]]
"""What happens again and again in a quiet time, as of a moment of it."""
COUNTED = frozenset(field.name for field in fields(State)) & {
    "oks", "canary_oks", "canary_ok", "canary_bad", "failed_at", "ping_soft", "ping_silent", "ping_bad",
    "canary_soft", "canary_silent", "ping_pace", "canary_pace", "fence",
}  # fmt: skip
"""What goes on in the state of an agent at rest: successes and failures are counted and dated, the windows
forget, the lease is renewed. None of it decides anything as long as the same goes on."""


def well(at: float) -> tuple[Event, ...]:
    """A quiet time of a mirror that is well."""
    return (
        PingOk(at - WELL_S, WELL_S),
        CanaryOk(at - WELL_S, WELL_S),
        OwnerSeen(Owner.OK, "modelled"),
        OriginSeen(good=True, detail="modelled"),
        Tick(),
    )


class Agent:
    """One node's agent. `changes` and `origin_asked`: when the route changed, and when it looked at the
    origin.
    """

    def __init__(self, policy: Policy, mirror: Mirror, rng: random.Random, state: State, at: float) -> None:
        self.policy = policy
        self.mirror = mirror
        self.state = state
        self.now = at
        self.changes: list[tuple[float, Route]] = []
        self.origin_asked: list[float] = []
        self.steps = 0
        self.open_until = at
        """When the last round that has begun is over, late answers included."""
        self.outages = 0
        """How often the health state became down."""
        self._rng = rng
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._canary_runs = False
        self._canary_wanted = False
        self._canary_due = 0
        self._chores_at = at
        self._posted: deque[Event] = deque()

    # Time

    def begin(self, left_s: float = 0.0) -> None:
        """Start as a fresh daemon: the mode, a lease that a former run left, the owner, then all tasks at
        once.
        """
        self._take(ModeChanged(Mode.FENCE, "applied"))
        if left_s > 0:
            self._take(Adopted(left_s))
        self._look_at_owner()
        self._at(self.now, self._ping)
        self._at(self.now, self._canary)
        self._at(self.now + TICK_S, self._tick)
        self._ask_origin()

    def join(self, first: Probe | None = None) -> None:
        """Go on in the middle of a daemon's life: each task at a random point of its beat, one kind of probe
        now.
        """
        self._queue.clear()
        self._posted.clear()
        self._canary_runs = self._canary_wanted = False
        self._at(
            self.now + self._rng.random() * self.policy.interval_s * (first is not Probe.PING), self._ping
        )
        self._rest(self._rng.random() * self.policy.canary_interval_s * (first is not Probe.CANARY))
        self._at(self.now + self._rng.random() * TICK_S, self._tick)
        self._chores_at = self.now - self._rng.random() * CHORES_S

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Everything that happens until then, or until `stop` says so."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()
            while self._posted:
                self._take(self._posted.popleft())
            if stop():
                return
        self.now = until

    def moved_by(self, to: float, events: Events) -> str:
        """ "" where `events`, now and then, would change nothing but COUNTED and do nothing; else what they
        change.
        """
        for at in (self.now, to):
            for event in events(at):
                after, effects = step(self.state, event, at, self.policy)
                kept = replace(after, **{name: getattr(self.state, name) for name in COUNTED})
                asked = [effect for effect in effects if not isinstance(effect, ExtendFence)]
                if kept != self.state or asked:
                    changed = [
                        f.name for f in fields(State) if getattr(kept, f.name) != getattr(self.state, f.name)
                    ]
                    return f"{event} changes {changed} and asks for {asked}"
        return ""

    def skip(self, to: float, events: Events, first: Probe | None = None) -> None:
        """Jump over a time in which only `events` happen, which is shown to change nothing."""
        moves = self.moved_by(to, events)
        if moves:
            raise AssertionError(f"not at rest: {moves}")
        self.now = to
        self.join(first)

    def meets(self, event: Event) -> None:
        """Something that the mirror does to the agent now (the end of the sentinel's connection)."""
        self._take(event)
        while self._posted:
            self._take(self._posted.popleft())

    def _at(self, at: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, action))

    # The machine

    def _take(self, event: Event) -> None:
        self.steps += 1
        before = self.state
        self.state, effects = step(before, event, self.now, self.policy)
        for effect in effects:
            match effect:
                case AskCanary():
                    self._want_canary()
                case AskOrigin():
                    self._ask_origin()
                case AskOwner():
                    self._look_at_owner()
                case _:
                    pass
        self.outages += self.state.health_state is HealthState.DOWN and before.health_state in (
            HealthState.HEALTHY,
            HealthState.SUSPECT,
        )
        if self.state.fence is not before.fence and route(before) is not (after := route(self.state)):
            self.changes.append((self.now, after))

    # The tasks beside the loop

    def _tick(self) -> None:
        self._take(Tick())
        if self.now - self._chores_at >= CHORES_S:
            self._chores_at = self.now
            self._look_at_owner()
        self._at(self.now + TICK_S, self._tick)

    def _ping(self) -> None:
        started = self.now
        window_s = ping_window_s(self.state, self.policy)
        found = staggered(self.mirror, started, window_s, self.policy.window_cap_s)
        self._open(found)
        self._at(found.ended, lambda: self._pinged(started, found))
        if found.late < NEVER_S:
            self._at(found.late, lambda: self._take(PingOk(started, found.late - started)))

    def _pinged(self, started: float, found: Round) -> None:
        if found.failure is None:
            self._take(PingOk(started, found.ended - started))
        else:
            self._take(PingFailed(started, found.failure, "modelled"))
        rest_s = started + self._jittered(self.policy.interval_s) - self.now
        self._at(self.now + max(rest_s, self.policy.interval_s / 4), self._ping)

    def _canary(self) -> None:
        self._canary_runs, self._canary_wanted = True, False
        started = self.now
        window_s = canary_window_s(self.state, self.policy)
        found = staggered(self.mirror, started, window_s, self.policy.window_cap_s, Probe.CANARY)
        self._open(found)
        self._at(found.ended, lambda: self._canaried(started, found))
        if found.late < NEVER_S:
            self._at(found.late, lambda: self._take(CanaryOk(started, found.late - started)))

    def _canaried(self, started: float, found: Round) -> None:
        self._canary_runs = False
        self._look_at_owner()
        if found.failure is None:
            self._posted.append(CanaryOk(started, found.ended - started))
        else:
            self._posted.append(CanaryFailed(started, found.failure, "modelled"))
        if self._canary_wanted:
            self._canary_runs = True
            self._at(self.now, self._canary)
        else:
            self._rest(self._jittered(self.policy.canary_interval_s))

    def _open(self, found: Round) -> None:
        self.open_until = max(self.open_until, found.late if found.late < NEVER_S else found.ended)

    def _rest(self, seconds: float) -> None:
        self._canary_due += 1
        due = self._canary_due
        self._at(self.now + seconds, lambda: self._canary() if due == self._canary_due else None)

    def _want_canary(self) -> None:
        self._canary_wanted = True
        if not self._canary_runs:
            self._canary_due += 1  # the one that was due later is made now
            self._canary_runs = True
            self._at(self.now, self._canary)

    def _ask_origin(self) -> None:
        self.origin_asked.append(self.now)
        self._at(self.now + _ORIGIN_S, lambda: self._take(OriginSeen(good=True, detail="modelled")))

    def _look_at_owner(self) -> None:
        self._posted.append(OwnerSeen(self.mirror.owner(self.now), "modelled"))

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.9 + self._rng.randrange(256) / 1280)


@functools.cache
def healthy(policy: Policy, at: float) -> State:
    """The state of an agent that has long been at a mirror that is well."""

    class _Well:
        def attempt(self, _at: float, _probe: Probe) -> Answer:
            return Answer(WELL_S)

        def owner(self, _at: float) -> Owner:
            return Owner.OK

    agent = Agent(policy, _Well(), random.Random(1), State(), at - 60.0)
    agent.begin()
    agent.run(at)
    return agent.state
