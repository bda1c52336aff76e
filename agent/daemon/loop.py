"""One session of the daemon: a configuration, a mirror, and the loop that turns evidence into the route.

Whatever looks at something posts events; they are taken one after the other, each as soon as it is posted: the health
machine is stepped, its effects are carried out, fence first, and what changed is published. The watchdog is fed from
here, so a loop that is stuck is restarted. Waking up costs as much as a ping: all that is periodic has one beat.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from agent.daemon.beat import TICK_S, Beat
from agent.daemon.canary import CanaryObject
from agent.daemon.documents import Applied, Document, Pin, applied, pin, pin_change, pinned, proof_of
from agent.daemon.drift import Drift
from agent.daemon.holder import Holder
from agent.daemon.keeper import Keeper
from agent.daemon.memory import Memory, adopted
from agent.daemon.messages import Message
from agent.daemon.origins import Origins, needed
from agent.daemon.ownership import Ownership
from agent.daemon.probe_results import ProbeResults
from agent.daemon.probing import Probing
from agent.daemon.record import Record
from agent.daemon.settings import Places, Settings
from agent.daemon.symptoms import Symptoms
from agent.daemon.turning import Loop
from agent.errors import FenceError
from agent.health.evidence import (
    Adopted,
    CanaryOk,
    ClockJump,
    Event,
    FenceFailed,
    Mode,
    ModeChanged,
    OwnerSeen,
    Pinned,
    Tick,
)
from agent.health.machine import step, transition
from agent.health.owner import Owner
from agent.health.state import (
    AskCanary,
    AskOrigin,
    AskOwner,
    Effect,
    ExtendFence,
    LiftFence,
    RaiseFence,
)
from agent.node.moment import present
from agent.ports_daemon import DaemonPorts

_CHORES_S = 1.0
"""Between two looks at documents and the listener's owner, two publications, two signs of life for the watchdog."""
_OWNER_S = 1.2
"""Between two looks at the listener's owner, at most about a second and a half."""
_FIND_CLIENTS_S, _FIND_CLIENTS_FENCED_S = 30.0, 5.0
"""Between two looks for the cgroups of nydusd and containerd, which cost 7 ms where there are a thousand processes."""
_SELF_TEST_AGAIN_S = 60.0
_SLEPT_S = 0.5


class End(enum.Enum):
    """Why a session ends."""

    STOP = enum.auto()
    RELOAD = enum.auto()
    """The operator asks for the configuration to be read again."""
    MOVED = enum.auto()
    """`apply` has set up another mirror or other origins."""


class Session:
    """Made, run once, thrown away. What must outlive it is in `record`."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        places: Places,
        ports: DaemonPorts,
        record: Record,
        drift: Drift,
        *,
        memory: Memory,
        resettle: Callable[[Applied], Settings],
        canary: CanaryObject,
        canary_port: Callable[[], int | None],
        on_change: Callable[[], None],
    ) -> None:
        self._loop = loop
        self.settings = settings
        self.policy = settings.policy
        self.record = record
        self.drift = drift
        self.state = memory.state
        mirror = (settings.proxy.host, settings.proxy.port)
        self.keeper = Keeper(ports.fence, ports.cgroups, mirror, record.fence)
        self.effective = Document(places.effective, places.owner)
        self.proof = Document(places.proof, places.owner)
        self.results = ProbeResults(record)
        self.owner_detail = ""
        self.pin: Pin | None = None
        self.self_test = "not-run"
        self.self_test_reason = ""
        self.origins = Origins(loop, settings.origins, ports.names, self.post, needed=lambda: needed(self.state))
        self._ports = ports
        self._pins = Document(places.pin, places.owner)
        self._beat = Beat(loop, self.policy.interval_s, self._on_beat)
        self._probing = Probing(
            loop, settings, self.origins, self.post, canary=canary, canary_port=canary_port,
            state=lambda: self.state, policy=lambda: self.policy, before=self._look_at_owner, sooner=self._beat.sooner,
            lifted_at=lambda: self._lifted_at, reach=memory.reach, mute=self._no_canary_comes_back,
        )  # fmt: skip
        fenced, failed = (lambda: self.state.fence is not None), self._read_failed
        self._symptoms = Symptoms(loop, ports.journal, self.post, fenced, failed)
        self._holder = Holder(ports.mirror_processes, ports.tables, mirror, self.post)
        self._ownership = Ownership(ports.tables, settings, self._holder, self.post)
        self._resettle = resettle
        self._on_change = on_change
        self._posted: deque[Event] = deque()
        self._runs = False
        self._turns = False
        """Events are taken when they are posted: not before the session runs, and not within the taking of another."""
        self._end: End | None = None
        self._ended: Callable[[End], None] = lambda _: None
        self._lifted_at = float("-inf")
        self._told = self.state
        self._applied: Applied | None = None
        self._chores_at = self._found_at = self._tested_at = 0.0
        self._asleep_s = _asleep()
        if memory.canary:
            self._canaries_come_back()

    @property
    def memory(self) -> Memory:
        """What the next session shall know."""
        mirror, ping = self.settings.known_as
        return Memory(mirror, ping, self.state, self.policy.canary, self._probing.reach)

    def post(self, event: Event | End) -> None:
        """Take an event, or end; from the loop's own thread only."""
        if isinstance(event, End):
            self._end_with(event)
            return
        self._posted.append(event)
        if self._turns:
            self._turn()

    def begin(self, ended: Callable[[End], None]) -> None:
        """Judge and hold the route until told to end, which `ended` hears in a turn of its own. The first looks are
        done when this returns.
        """
        self._ended = ended
        self._look_first()
        if self._end is not None:
            self._loop.call_later(0, self._over)
            return
        self._runs = True
        self._loop.add_reader(self._ports.mirror_processes.fileno(), self._holder.look)
        self._turn()
        self._beat.sooner(0)
        self._symptoms.begin()
        self._probing.begin()

    def close(self) -> None:
        """Wait for nothing any more. The fence stays as it is."""
        self._beat.stop()  # which the first looks may have asked for
        self._turns = False
        if self._runs:
            self._runs = False
            self._probing.close()
            self._symptoms.close()
            self._loop.remove_reader(self._ports.mirror_processes.fileno())

    def _end_with(self, end: End) -> None:
        if self._end is None and self._runs:
            self._loop.call_later(0, self._over)
        if self._end is None or end is End.STOP:
            self._end = end

    def _over(self) -> None:
        self.close()
        assert self._end is not None
        self._ended(self._end)

    def _look_first(self) -> None:
        """In the order that keeps a running fence: what fences without the mirror's fault, adoption, mode, owner."""
        self._try_first(self.keeper.find_clients)
        self._try_first(self._look_at_pin)
        if self.pin is None and self.state.pin is not None:
            self.post(Pinned(None))
        self._take_posted()
        left_s = self._adopt()
        self._look_at_documents()
        self._told = self.state  # the mode is where the story begins, not a part of it
        if left_s and self.state.fence is None:
            self._take(Adopted(left_s))
        self._try_first(self._look_at_owner)

    def _try_first(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as error:  # noqa: BLE001 - what a former run knew holds the route; the chores look again
            self.record.bug("a first look was left out", error)

    def _adopt(self) -> float:
        """Seconds left of a fence that a former session or run has left. Where it is known why, it stays."""
        try:
            left_s = self.keeper.adopt(_now())
        except FenceError:
            left_s = 0.0  # no nft: the self-test has said so
        self.state = adopted(self.state, left_s, _now())
        return left_s

    def _take_posted(self) -> None:
        while self._posted and self._end is None:
            self._handle(self._posted.popleft())

    def _turn(self) -> None:
        """Take what was posted, also by the taking itself."""
        self._turns = False
        while self._posted and self._end is None:
            event = self._posted.popleft()
            try:
                self._handle(event)
            except Exception as error:  # noqa: BLE001
                # A bug in the treatment of one event must not end the protection of the node. A tick that fails does
                # not feed the watchdog.
                self.record.bug("an event was dropped", error)
        self._turns = True

    def _on_beat(self) -> None:
        self._probing.beat(self._beat.every_s)
        self.post(Tick())

    # What the loop does with an event

    def _handle(self, event: Event) -> None:
        self.results.note(event)
        if isinstance(event, OwnerSeen):
            self.owner_detail = event.detail
        here = self.state.local and self.state.owner is not Owner.NONE
        if isinstance(event, CanaryOk) or (here and not self.policy.canary):
            self._canaries_come_back()  # so from now on they must
        self._take(event)
        self._tell()
        self._probing.owner_judged()
        if isinstance(event, Tick):
            self._chores()
            self._tell()

    def _read_failed(self) -> None:
        if needed(self.state):  # under a pin nothing follows from the origins, so no read may have them asked
            self.origins.ask_soon()

    def _canaries_come_back(self) -> None:
        vouch_s = self._probing.vouch_s
        if not self.policy.canary or self.policy.vouch_s != vouch_s:
            self.policy = replace(self.policy, canary=True, vouch_s=vouch_s)

    def _no_canary_comes_back(self) -> None:
        self.policy = self.settings.policy

    def _tell(self) -> None:
        """Keep what changed, before anything is published or judged: that goes by since when the health state holds."""
        change = None if self._told is self.state else transition(self._told, self.state)
        self._told = self.state
        if change is not None:
            self.record.transition(change)
            self._on_change()

    def _take(self, event: Event) -> None:
        self.state, effects = step(self.state, event, _now(), self.policy)
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case RaiseFence() | ExtendFence():
                # A tentative fence is lifted by a tick: were its lease over just before, what reads meet then would
                # pass for something that happened behind it.
                lease_s = effect.lease_s + 2 * TICK_S if effect.tentative else effect.lease_s
                try:
                    self.keeper.hold(lease_s, _now())
                except FenceError as error:
                    self._take(FenceFailed(f"{error.what}: {error.cause}"))
                self.origins.watch()
            case LiftFence():
                self._lifted_at = _now()
                self.keeper.lift()
            case AskCanary():
                self._probing.ask_canary()
            case AskOrigin():
                self.origins.ask()
            case AskOwner():
                self._look_at_owner()

    # With each tick, and once a second

    def _chores(self) -> None:
        now = _now()
        self._holder.look()
        slept = _asleep() - self._asleep_s
        if slept > _SLEPT_S:
            self._asleep_s += slept
            self._take(ClockJump(slept))
        try:
            self.keeper.mend(now)
        except FenceError as error:
            self._take(FenceFailed(f"{error.what}: {error.cause}"))
        if now - self._chores_at < _CHORES_S:
            return
        self._chores_at = now
        self._look_at_documents()
        if now - self._ownership.looked_at >= _OWNER_S:  # a canary that has come back has looked already
            self._look_at_owner()
        self._look_after_drift(now)
        self._symptoms.look()
        self.keeper.retry()
        fenced = self.state.fence is not None
        if fenced:
            self.keeper.count_refused()
        if now - self._found_at >= (_FIND_CLIENTS_FENCED_S if fenced else _FIND_CLIENTS_S):
            self._found_at = now
            self.keeper.find_clients()
        self._tell()
        self._on_change()
        self._ports.notify.send("WATCHDOG=1")

    def _look_at_documents(self) -> None:
        found = applied(self.effective.load())
        if found != self._applied:
            self._applied = found
            if self._resettle(found) != self.settings:
                self.post(End.MOVED)
                return
        self._set_mode(found)
        self._look_at_pin()

    def _look_at_pin(self) -> None:
        document = self._pins.load()
        if document is None and self.pin is None:
            return  # the usual case; to know the present moment on every clock costs more than all the rest here
        moment = present()
        held = pin(document, moment)
        if held != self.pin:
            told = pin_change(self.pin, held, document, moment)
            self.record.log.info(told, message_id=Message.PIN)
            self.post(Pinned(None) if held is None else pinned(held, _now()))
        self.pin = held

    def _set_mode(self, found: Applied) -> None:
        """The fence is believed only after its self-test; one that failed is tried again each minute."""
        now = _now()
        if self.self_test == "not-run" or (self.self_test == "failed" and now - self._tested_at >= _SELF_TEST_AGAIN_S):
            self._tested_at = now
            usable, self.self_test_reason = self.keeper.self_test()
            self.self_test = "ok" if usable else "failed"
        mode, reason = found.mode, found.reason
        if mode is Mode.FENCE and self.self_test == "failed":
            mode, reason = Mode.NATIVE, f"the fence cannot be used: {self.self_test_reason}"
        if (mode, reason) != (self.state.mode, self.state.mode_reason):
            if mode is not self.state.mode:
                text = f"mode {mode}: {reason}"
                self.record.log.info(text, message_id=Message.MODE, mode=mode)
            if mode is Mode.FENCE:
                self.keeper.prepare()
            self._take(ModeChanged(mode, reason))

    def _look_at_owner(self) -> None:
        self._ownership.look(_now())

    def _look_after_drift(self, now: float) -> None:
        self.drift.refresh(now)
        proof = proof_of(self.proof.load())
        self.drift.proved(proof.at)
        self.drift.judged(self.state.health_state, self.record.health_since, proof, now)
        try:
            asked = self.drift.ask(now)
        except OSError:
            return  # a full or missing /run; the timer inspects all the same
        if asked:
            self.record.counts.add("inspections_requested_total")


def _now() -> float:
    return time.monotonic()


def _asleep() -> float:
    """Seconds that the machine has slept since it was booted: only CLOCK_BOOTTIME counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
