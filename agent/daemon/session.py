"""One session of the daemon: a configuration, a mirror, and the tasks that watch it.

Whatever watches something gives its events to `take`. There they are taken one after the other, each at once:
the failure detector is stepped, its effects are carried out, fence first, and what changed is published. The
watchdog is fed from here, so a daemon that is stuck is restarted.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.catalogue import Message
from agent.daemon.canaries import Canaries
from agent.daemon.documents import Applied, Document, applied, pin, pin_change, pinned, proof_of
from agent.daemon.lease import FenceLease
from agent.daemon.memory import Memory, Reach, adopted
from agent.daemon.origins import Origins, reads_depend
from agent.daemon.probes import MirrorListener, Pinger, Sentinel
from agent.daemon.record import ProbeResults, Record
from agent.daemon.settings import Settings
from agent.daemon.symptoms import CounterSymptoms, JournalSymptoms, near
from agent.daemon.tasks import TICK_S, Ticker, readable
from agent.documents.status import PinStatus
from agent.errors import FenceError
from agent.health.evidence import (
    Adopted,
    CanaryOk,
    ClockJump,
    Event,
    FenceFailed,
    Mode,
    ModeChanged,
    Owner,
    OwnerSeen,
    Pinned,
    Tick,
)
from agent.health.machine import step, transition
from agent.health.policy import Policy
from agent.health.state import (
    AskCanary,
    AskOrigin,
    AskOwner,
    Effect,
    ExtendFence,
    LiftFence,
    RaiseFence,
    State,
    ping_window_s,
)
from agent.node.machine import present

if TYPE_CHECKING:
    from agent.daemon.service import Service

CHORES_S = 1.0
"""Between two looks at documents and the listener's owner, two publications, two signs of life for the
watchdog."""
_OWNER_S = 1.2
"""Between two looks at the listener's owner, at most about a second and a half."""
_COUNTERS_SETTLE_S = 3.0
"""After the fence was lifted: what it has ended is in the mirror's counters by then."""
_SLEPT_S = 0.5


class End(enum.Enum):
    """Why a session ends."""

    STOP = enum.auto()
    RELOAD = enum.auto()
    """The operator asks for the configuration to be read again."""
    MOVED = enum.auto()
    """`apply` has set up another mirror or other origins."""


class Session:
    """Made, run once, thrown away. It owns the state of the failure detector; what must outlive it is the
    service's. Its tasks run in `tasks`.
    """

    def __init__(
        self, service: Service, tasks: asyncio.TaskGroup, settings: Settings, memory: Memory
    ) -> None:
        ports, places = service.ports, service.places
        self._service = service
        self._tasks = tasks
        self.settings: Settings = settings
        self.policy: Policy = settings.policy
        self.state: State = memory.state
        self.reach: Reach = memory.reach
        self.record: Record = service.record
        self.results: ProbeResults = ProbeResults(service.record)
        self.owner_detail: str = ""
        self.pin: PinStatus | None = None
        self.proof: Document = Document(places.proof, places.owner)
        self._effective = Document(places.effective, places.owner)
        self._pins = Document(places.pin, places.owner)
        self._applied: Applied | None = None

        mirror = (settings.proxy.host, settings.proxy.port)
        self.lease: FenceLease = FenceLease(ports.fence, ports.cgroups, mirror, service.record.fence)
        self.ticker: Ticker = Ticker(self.policy.interval_s)
        self.origins: Origins = Origins(tasks, settings.origins, ports.names, self.take, self._reads_depend)
        self.canaries: Canaries = Canaries(self, tasks, service.canary)
        self._pinger = Pinger(tasks, settings.ping, self.take, cap_s=self.policy.window_cap_s)
        self._sentinel = Sentinel(settings.proxy, self.take)
        self._listener = MirrorListener(ports.tables, ports.mirror_processes, settings)
        self._symptoms = JournalSymptoms(
            ports.journal, self.take, self._fenced, self._read_failed, lambda: self.lease.readers
        )
        self._counters: CounterSymptoms | None = None
        if settings.metrics is not None and near(settings.metrics, settings.proxy):
            self._counters = CounterSymptoms(settings.metrics, self.take, self._counters_count, self._blind)

        self._events: deque[Event] = deque()
        self._takes = False
        """Events are taken when they come: not before the session begins, and not within the taking of
        another."""
        self.ending: End | None = None
        self._ends = asyncio.Event()
        self._told = self.state
        self._lifted_at = float("-inf")
        self._chores_at = 0.0
        self._asleep_s = _asleep()
        if memory.canary:
            self._canaries_come_back()

    @property
    def memory(self) -> Memory:
        """What the next session shall know."""
        mirror, ping = self.settings.known_as
        return Memory(mirror, ping, self.state, self.policy.canary, self.reach)

    # The session's life

    def begin(self) -> None:
        """Do the first looks, and take what they brought."""
        self._look_first()
        if self.ending is None:
            self._take_all()

    async def run(self) -> None:
        """Judge and hold the route until told to end. What ends a task ends this too (see task_group)."""
        watching = {
            "pings": self._ping, "canaries": self.canaries.run, "sentinel": self._sentinel.run,
            "mirror's processes": self._watch_processes, "nydusd's lines": self._symptoms.run,
            "origins": self.origins.run, "ticks": self._tick,
        }  # fmt: skip
        if self._counters is not None:
            watching["dfdaemon's counters"] = self._counters.run
        if self.ending is None:
            for name, task in watching.items():
                self._tasks.create_task(task(), name=name)
            self.ticker.hasten(0)
        await self._ends.wait()

    def end(self, why: End) -> None:
        """Let `run` return."""
        if self.ending is None or why is End.STOP:
            self.ending = why
        self._ends.set()

    def close(self) -> None:
        """Take nothing any more. The fence stays as it is."""
        self._takes = False
        self.ticker.stop()
        self._pinger.close()

    def _look_first(self) -> None:
        """In the order that keeps a running fence: what fences without the mirror's fault, adoption, mode,
        owner."""
        self._try(self.lease.find_clients)
        self._try(self._read_pin)
        if self.pin is None and self.state.pin is not None:
            self.take(Pinned(None))
        while self._events:
            self._handle(self._events.popleft())
        left_s = self._adopt()
        self._read_documents()
        self._told = self.state  # the mode is where the story begins, not a part of it
        if left_s and self.state.fence is None:
            self._step(Adopted(left_s))
        self._try(self.check_owner)

    def _try(self, act: Callable[..., None], *given: object) -> None:
        """A bug in it must not end the protection of the node: what is known already holds the route."""
        try:
            act(*given)
        except Exception as error:  # noqa: BLE001
            self.record.bug(f"{act.__name__.strip('_')} was not done", error)

    def _adopt(self) -> float:
        """Seconds left of a fence that a former session or run has left. Where it is known why, it stays."""
        try:
            left_s = self.lease.adopt(_now())
        except FenceError:
            left_s = 0.0  # no nft: the self-test has said so
        self.state = adopted(self.state, left_s, _now())
        return left_s

    # The tasks that are the session's own

    async def _ping(self) -> None:
        """Ask ping_url once in an interval. What comes of it is taken at once."""
        began = float("-inf")
        while True:
            await self.ticker.tick()
            interval_s = self.policy.interval_s
            if _now() - began < interval_s - self.ticker.every_s / 2:
                continue
            began = _now()
            event = await self._pinger.ping(ping_window_s(self.state, self.policy))
            if not self.policy.canary:
                self.check_owner()  # a mirror that has just come up is local from its first answer on
            self.take(event)
            if _now() - began > interval_s:  # the tick at which the next one was due is past
                self.ticker.hasten(interval_s / 4)

    async def _tick(self) -> None:
        while True:
            await self.ticker.tick()
            self.take(Tick())

    async def _watch_processes(self) -> None:
        while True:
            await readable(self._listener.fileno())
            self._check_processes()

    def _check_processes(self) -> None:
        event = self._listener.ended()
        if event is not None:
            self.take(event)

    # What is done with an event

    def take(self, event: Event) -> None:
        """Take an event; where that is done while another one is being taken, after it."""
        self._events.append(event)
        if self._takes:
            self._take_all()

    def _take_all(self) -> None:
        """Take what has come, also by the taking itself."""
        self._takes = False
        while self._events and self.ending is None:
            self._try(self._handle, self._events.popleft())  # a tick that fails does not feed the watchdog
        self._takes = True

    def _handle(self, event: Event) -> None:
        """The fence first, then what is told of it."""
        if isinstance(event, OwnerSeen):
            self.owner_detail = event.detail
        here = self.state.local and self.state.owner is not Owner.NONE
        if isinstance(event, CanaryOk) or (here and not self.policy.canary):
            self._canaries_come_back()  # so from now on they must
        self._step(event)
        self.results.note(event)
        self._tell()
        self.canaries.owner_judged()
        if isinstance(event, Tick):
            self._do_chores()
            self._tell()

    def _step(self, event: Event) -> None:
        self.state, effects = step(self.state, event, _now(), self.policy)
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case RaiseFence() | ExtendFence():
                # A tentative fence is lifted by a tick: were its lease over just before, what reads meet then
                # would pass for something that happened behind it.
                lease_s = effect.lease_s + 2 * TICK_S if effect.tentative else effect.lease_s
                try:
                    self.lease.raise_(lease_s, _now())
                except FenceError as error:
                    self._step(FenceFailed(f"{error.what}: {error.cause}"))
                self.origins.watch()
            case LiftFence():
                self._lifted_at = _now()
                self.lease.lift()
            case AskCanary():
                self.canaries.ask()
            case AskOrigin():
                self.origins.ask()
            case AskOwner():
                self.check_owner()

    def _tell(self) -> None:
        """Keep what changed; before anything is published or judged, which goes by since when the health
        state holds."""
        change = None if self._told is self.state else transition(self._told, self.state)
        self._told = self.state
        if change is not None:
            self.record.transition(change)
            self._service.publish()

    # What the watchers ask of the session

    def check_owner(self) -> None:
        """Look whose the mirror's port is, and take that."""
        self.take(self._listener.owner(_now()))

    def do_without_canaries(self) -> None:
        """None comes back any more from where the mirror is now."""
        self.policy = self.settings.policy

    def _canaries_come_back(self) -> None:
        self.policy = self.canaries.policy

    def _reads_depend(self) -> bool:
        return reads_depend(self.state)

    def _read_failed(self) -> None:
        if reads_depend(self.state):
            # Under a pin nothing follows from the origins, so no read may have them asked.
            self.origins.ask_soon()

    def _fenced(self) -> bool:
        return self.state.fence is not None

    def _blind(self) -> bool:
        return self.state.symptoms_unknown != ""

    def _counters_count(self) -> bool:
        settled = _now() - self._lifted_at > _COUNTERS_SETTLE_S
        return self.state.local and self.state.fence is None and settled

    # With each tick, and once a second

    def _do_chores(self) -> None:
        now = _now()
        self._check_processes()
        slept = _asleep() - self._asleep_s
        if slept > _SLEPT_S:
            self._asleep_s += slept
            self._step(ClockJump(slept))
        try:
            self.lease.mend(now)
        except FenceError as error:
            self._step(FenceFailed(f"{error.what}: {error.cause}"))
        if now - self._chores_at < CHORES_S:
            return
        self._chores_at = now
        self._try(self._read_documents)
        if now - self._listener.owner_at >= _OWNER_S:  # a canary that has come back has looked already
            self.check_owner()
        self._try(self._look_for_drift)
        self._try(self._symptoms.check)
        self.lease.maintain(now, fenced=self._fenced())
        self._tell()
        self._service.publish()
        self._service.ports.notify.send("WATCHDOG=1")

    def _look_for_drift(self) -> None:
        proof = proof_of(self.proof.load())
        if self._service.drift.maintain(_now(), self.state.health_state, self.record.health_since, proof):
            self.record.counts.add("inspections_requested_total")

    def _read_documents(self) -> None:
        applied_now = applied(self._effective.load())
        if applied_now != self._applied:
            self._applied = applied_now
            if self._service.settle(applied_now) != self.settings:
                self.end(End.MOVED)
                return
        self._set_mode(applied_now)
        self._read_pin()

    def _read_pin(self) -> None:
        document = self._pins.load()
        if document is None and self.pin is None:
            # the usual case; to know the present moment on every clock costs more than all the rest here
            return
        moment = present()
        held = pin(document, moment)
        if held != self.pin:
            text = pin_change(self.pin, held, document, moment)
            self.record.log.info(text, message_id=Message.PIN)
            self.take(Pinned(None) if held is None else pinned(held, _now()))
        self.pin = held

    def _set_mode(self, applied_now: Applied) -> None:
        """The fence is believed only after its self-test."""
        self.lease.test(_now())
        mode, reason = applied_now.mode, applied_now.reason
        if mode is Mode.FENCE and self.lease.self_test == "failed":
            mode, reason = Mode.NATIVE, f"the fence cannot be used: {self.lease.self_test_reason}"
        if (mode, reason) != (self.state.mode, self.state.mode_reason):
            if mode is not self.state.mode:
                text = f"mode {mode}: {reason}"
                self.record.log.info(text, message_id=Message.MODE, mode=mode)
            if mode is Mode.FENCE:
                self.lease.prepare()
            self._step(ModeChanged(mode, reason))


def _now() -> float:
    return time.monotonic()


def _asleep() -> float:
    """Seconds that the machine has slept since it was booted: only CLOCK_BOOTTIME counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
