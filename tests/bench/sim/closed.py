"""One node in closed loop: an agent (tests/bench/sim/agent.py) in a world of faults, its questions to the
origins, what nydusd writes of reads, restarts of the agent; and what must hold, checked while it runs.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

from agent.daemon.canaries import REGISTRY_S
from agent.daemon.memory import Memory, MemoryFile, adopted, known_to
from agent.daemon.origins import AGAIN_S, DEADLINE_S, EVERY_S, SOON_S, TURN_S, WATCH_S, reads_depend
from agent.health.evidence import (
    Adopted,
    CanaryFailed,
    CanaryOk,
    ClockJump,
    Event,
    Failure,
    MirrorEnded,
    Mode,
    ModeChanged,
    OriginSeen,
    OwnerSeen,
    PingFailed,
    PingOk,
    Route,
    SentinelClosed,
    Symptom,
    SymptomKind,
    SymptomsUnknown,
    Tick,
)
from agent.health.machine import step
from agent.health.policy import Policy
from agent.health.route import Prospect, prospect, route
from agent.health.state import HealthState, State, held_s
from tests.bench.sim.agent import NEVER_S, WELL_S, Agent
from tests.bench.sim.world import Fault, World, Wrong

DARK_S = 10.0
"""So long at most is a mirror fenced that answers, while no registry does."""
CALM_S = 2400.0
"""A mirror of which nothing was wrong for this long is judged by the tightest bounds."""
SEEN_S: dict[Wrong, float] = {
    Wrong.DEAD: 0.4, Wrong.STALLS: 1.0, Wrong.HANGS: 1.0, Wrong.PATH_HANGS: 2.7, Wrong.LIES: 1.5
}  # fmt: skip
"""Within this a fault is fenced where the mirror was calm (docs/design.md, and twice a tick for the model's
own beats)."""
PATIENT_S: dict[Wrong, float] = {
    Wrong.DEAD: 3.0, Wrong.STALLS: 9.5, Wrong.HANGS: 9.5, Wrong.PATH_HANGS: 11.0, Wrong.LIES: 4.0
}  # fmt: skip
"""... and where it was not: silence is ridden out for 6 s in windows of up to 3 s, a canary alone was wrong
before."""
ORIGIN_S = 9.0
"""A registry that comes back is noticed within this."""


@dataclass
class Seen:
    """What a node has seen in `hours`."""

    hours: float = 0.0
    fences: list[float] = field(default_factory=list)
    away_s: float = 0.0
    restarts: int = 0
    predictions: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    """The first few violations, each with its time and the seed."""

    @property
    def most_an_hour(self) -> int:
        """Fences in the worst hour."""
        return max((sum(one <= at < one + 3600 for at in self.fences) for one in self.fences), default=0)

    def add(self, other: Seen) -> None:
        """With another node's."""
        self.hours += other.hours
        self.away_s += other.away_s
        self.restarts += other.restarts
        self.predictions += other.predictions
        self.violations += other.violations
        self.told += other.told[: 20 - len(self.told)]


class Node(Agent):
    """`seed` names the run where something does not hold; `memory` is the file that a restart reads."""

    watch_s = WATCH_S
    """So seldom at most is a registry asked that reads depend on."""

    def __init__(
        self,
        policy: Policy,
        world: World,
        rng: random.Random,
        seed: str,
        memory: str,
        *,
        reads_s: float = 1.0,
    ) -> None:
        self.world = world
        self.seen = Seen()
        self._seed = seed
        self._reads_s = reads_s
        self._memory = MemoryFile(memory)
        self._origin_runs = self._origin_wanted = False
        self._origin_due = 0
        self._origin_due_at, self._origin_soon_s = NEVER_S, SOON_S
        self._canary_at = 0.0
        self._dark = self._exposed = NEVER_S
        self._fenced_at = NEVER_S
        self._expected: tuple[float, float] | None = None
        """When a prediction was made, and the return that it names."""
        super().__init__(policy, world, rng, State(), 0.0)

    def live(self, until: float, restarts: tuple[float, ...] = ()) -> Seen:
        """From the first start to the end. The agent is killed and started anew at each of `restarts`."""
        self.begin()
        self._take(SymptomsUnknown(""))
        self._next_read()
        stops = sorted({at for at in (*self.world.changes, *restarts) if at < until} | {until})
        for stop in stops:
            self._until(stop)
            if stop in restarts:
                self._restart()
            self._change(stop)
        self.seen.hours = until / 3600
        if self._fenced_at < NEVER_S:
            self.seen.away_s += until - self._fenced_at
        return self.seen

    # Time

    def _until(self, stop: float) -> None:
        """Run, and jump where nothing would change."""
        while self.now < stop:
            self.run(min(stop, max(self.now + 1.0, self.open_until)))
            self._observe()
            rest_s = self._rests_until(stop) - self.now
            if (
                rest_s > 5.0
                and self.open_until <= self.now
                and not self.moved_by(self.now + rest_s, self._quiet)
            ):
                self._jump(self.now + rest_s)

    def _rests_until(self, stop: float) -> float:
        """A time is waited for where the mirror comes back."""
        fault = self.world.fault(self.now)
        if fault is not None and (fault.share < 1 or fault.wrong not in (Wrong.DEAD, Wrong.HANGS)):
            return self.now
        match self.state.health_state if fault is None else None:
            case HealthState.DOWN:
                return min(stop, self.now + held_s(self.state.flap, self.now, self.policy)) - 2.0
            case HealthState.PROBATION:
                return min(stop, self.state.return_at) - 2.0
            case HealthState.SUSPECT:
                return self.now
            case _:
                pass
        if self.world.origin(self.now)[0] is not self.state.origin:
            return self.now
        return stop - 0.001

    def _jump(self, to: float) -> None:
        self.now = to
        if self.state.fence is not None:
            self.state = replace(self.state, fence=replace(self.state.fence, renewed=to))
        for event in self._quiet(to):
            self.state, _ = step(self.state, event, to, self.policy)
        self.join()
        self._next_read()
        self._origin_runs = False
        self._rest_origin(EVERY_S * (0.5 + self._rng.random()))

    def _quiet(self, at: float) -> tuple[Event, ...]:
        """What happens again and again while the world stays as it is."""
        fault, good = self.world.fault(at), self.world.origin(at)[0]
        mirror: tuple[Event, ...] = (PingOk(at - WELL_S, WELL_S), CanaryOk(at - WELL_S, WELL_S))
        if fault is not None:
            failure = Failure.REFUSED if fault.wrong is Wrong.DEAD else Failure.SILENT
            mirror = (PingFailed(at - 0.6, failure, "modelled"), CanaryFailed(at - 1.2, failure, "modelled"))
        owner = OwnerSeen(self.world.owner(at), "modelled")
        return (*mirror, owner, OriginSeen(good, "modelled"), Tick())

    def _change(self, at: float) -> None:
        """The world is otherwise now."""
        self.now = at
        fault = self.world.fault(at)
        if fault is not None and fault.begins == at and fault.wrong is Wrong.DEAD:
            if self.world.local:
                self.meets(MirrorEnded("modelled"))
            self.meets(SentinelClosed("modelled"))
        elif self._rng.random() < 0.01:
            self.meets(ClockJump(5.0))
        self._observe()

    # The agent's end and its next start, as in agent/daemon/session.py

    def _restart(self) -> None:
        self.seen.restarts += 1
        state, before = self.state, route(self.state)
        left_s = 0.0
        if state.fence is not None:
            left_s = state.fence.renewed + self.policy.lease_s - self.now
        self._queue.clear()
        self._posted.clear()
        self._canary_runs = self._canary_wanted = self._origin_runs = self._origin_wanted = False
        self._expected = None
        self._memory.save(Memory("mirror", "ping", state, canary=True))
        known = known_to(self._memory.load(self.now, self.policy), "mirror", "ping", frozenset())
        self.state = adopted(known.state, left_s, self.now)
        self._take(ModeChanged(Mode.FENCE, "applied"))
        if left_s > 0 and self.state.fence is None:
            self._take(Adopted(left_s))
        self._look_at_owner()
        while self._posted:
            self._take(self._posted.popleft())
        after = route(self.state)
        held_bad = state.health_state in (HealthState.SUSPECT, HealthState.DOWN, HealthState.PROBATION)
        if before is Route.ORIGIN and after is Route.MIRROR and held_bad:
            self._violated("a restart moved the route to a mirror that was held bad")
        if before is Route.MIRROR and after is Route.ORIGIN and not held_bad:
            self._violated("a restart moved the route away from a mirror that was held well")
        for task in (self._ping, self._canary, self._tick):
            self._at(self.now, task)
        self._ask_origin()
        self._next_read()
        self._take(SymptomsUnknown(""))

    # Reads

    def _next_read(self) -> None:
        self._at(self.now + self._rng.expovariate(self._reads_s), self._read)

    def _read(self) -> None:
        self._next_read()
        kind = self.world.read(self.now) if route(self.state) is Route.MIRROR else None
        if kind is None:
            return
        before = self.state
        self._take(Symptom(kind, "modelled", self.now))
        bad = kind is not SymptomKind.FALLBACK and before.origin is True and self.now > before.lifted
        if bad and self.state.fence is None and self.now >= before.symptom_refuted_until:
            self._violated("a read failed at the mirror, and the next one goes there too")

    # Canaries of a mirror that is elsewhere are answered by a registry, which is asked seldom.

    def _rest(self, seconds: float) -> None:
        if not self.world.local and self.state.health_state is HealthState.HEALTHY:
            seconds *= REGISTRY_S / self.policy.canary_interval_s
        self._canary_at = self.now + seconds
        super()._rest(seconds)

    @property
    def _canary_due_s(self) -> float:
        return 0.0 if self.world.local else max(0.0, self._canary_at - self.now)

    # The origins, as in agent/daemon/origins.py

    def _ask_origin(self) -> None:
        self._origin_wanted = True
        if not self._origin_runs:
            self._origin_round()

    def _origin_round(self) -> None:
        self._origin_runs, self._origin_wanted = True, False
        self._origin_due += 1
        good, silent = self.world.origin(self.now)
        took_s = 0.02
        if not good:
            needed = reads_depend(self.state)
            again_s = DEADLINE_S if silent else 0.02
            took_s = again_s if needed and not self.state.origin else AGAIN_S + again_s
            if silent and not needed:
                took_s += DEADLINE_S
        self._at(self.now + took_s, lambda: self._origin_told(good=good))

    def _origin_told(self, *, good: bool) -> None:
        self._origin_runs = False
        self._origin_soon_s = SOON_S if good else min(2 * self._origin_soon_s, EVERY_S)
        self._take(OriginSeen(good, "modelled"))
        if self._origin_wanted and not reads_depend(self.state):
            self._origin_round()
        elif reads_depend(self.state):
            longest_s = self.watch_s if good else TURN_S
            self._rest_origin(SOON_S + (longest_s - SOON_S) * self._rng.random())
        else:
            mean_s = EVERY_S if good else self._origin_soon_s
            self._rest_origin(mean_s * (0.5 + self._rng.random()))

    def _rest_origin(self, seconds: float) -> None:
        self._origin_due += 1
        due = self._origin_due
        self._origin_due_at = self.now + seconds
        self._at(self._origin_due_at, lambda: self._origin_round() if due == self._origin_due else None)

    # What must hold

    def _take(self, event: Event) -> None:
        fenced = self.state.fence is not None
        super()._take(event)
        if (self.state.fence is not None) is not fenced:
            self._moved(fenced=not fenced)
        late = not self._origin_runs and self._origin_due_at - self.now > self.watch_s
        if late and reads_depend(self.state):
            self._rest_origin(SOON_S + (self.watch_s - SOON_S) * self._rng.random())
        self._observe()

    def _moved(self, *, fenced: bool) -> None:
        if fenced:
            self.seen.fences.append(self.now)
            self._fenced_at = self.now
        else:
            self.seen.away_s += self.now - self._fenced_at
            self._fenced_at = NEVER_S
        self._judge_prediction(returned=not fenced)

    def _observe(self) -> None:
        """How long what must not last has lasted."""
        good, _ = self.world.origin(self.now)
        fenced = self.state.fence is not None
        dark = fenced and not good and self.world.serves(self.now)
        self._dark = min(self._dark, self.now) if dark else NEVER_S
        if dark and self.now - self._dark > DARK_S:
            self._violated(f"fenced for {DARK_S:g} s while the mirror answers and no origin does")
            self._dark = self.now
        fault = self.world.fault(self.now) if good and not fenced else None
        if fault is None or fault.share < 1 or fault.wrong not in SEEN_S:
            self._exposed = NEVER_S
        else:
            self._exposed = min(self._exposed, self.now)
            if self.now - self._exposed > self._bound_s(fault):
                self._violated(f"at a mirror that {fault.wrong.name} for longer than the bound")
                self._exposed = self.now
        self._predict()

    def _bound_s(self, fault: Fault) -> float:
        since = self._exposed - CALM_S
        calm = not any(since < at < self._exposed and at != fault.begins for at in self.world.changes)
        if calm and self._exposed == fault.begins > CALM_S:
            return SEEN_S[fault.wrong]
        news = self.world.origin_changed(self._exposed - 60.0, self.now) or self.state.origin is not True
        return PATIENT_S[fault.wrong] + (ORIGIN_S if news else 0.0)

    def _predict(self) -> None:
        """Once the mirror is well, no round is open that met it otherwise, and the state is down: when will
        reads return? Whatever changes first ends the prediction without a verdict."""
        away = self.state.health_state in (HealthState.DOWN, HealthState.PROBATION)
        if not away or self.state.fence is None or self.world.fault(self.now) is not None:
            self._expected = None
        elif self._expected is None:
            if self.open_until >= self.now:
                return
            ahead = self.predicted()
            if not ahead.waits_for:
                self._violated("away, and nothing is waited for")
            elif ahead.seconds is not None:
                self._expected = self.now, self.now + ahead.seconds
        elif self.now > self._expected[1] + 0.1 * (self._expected[1] - self._expected[0]) + 1.5:
            self._violated("a return was predicted that did not come")
            self._expected = None

    def predicted(self) -> Prospect:
        """What `status --why` says of the way back."""
        return prospect(self.state, self.now, self.policy, self._canary_due_s)

    def _judge_prediction(self, *, returned: bool) -> None:
        if self._expected is None or not returned:
            return
        made, due = self._expected
        self._expected = None
        if self.state.health_state is not HealthState.HEALTHY:
            return
        self.seen.predictions += 1
        if abs(self.now - due) > 0.1 * (due - made) + 1.5:
            self._violated(
                f"a return was predicted after {due - made:.1f} s and came after {self.now - made:.1f} s"
            )

    def _violated(self, what: str) -> None:
        kind = what if "predicted" not in what else "a predicted return was off by more than a tenth"
        self.seen.violations[kind] += 1
        if len(self.seen.told) < 3:
            state = self.state.health_state
            self.seen.told.append(
                f"{self._seed}, at {self.now:.2f} s, {state}, {self.world.fault(self.now)}: {what}"
            )
