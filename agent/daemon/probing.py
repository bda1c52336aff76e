"""What looks at the mirror: pings and canaries begin with the session's beat, what is rarer has timers of its own. All
post what they saw; none judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.daemon.canary import Canary, CanaryObject, RegistryCanary, Result
from agent.daemon.counters import Counters, near
from agent.daemon.memory import Reach
from agent.daemon.origins import Origin, Origins
from agent.daemon.probes import Pinged, Pinger, Sentinel, jittered
from agent.daemon.settings import Settings
from agent.daemon.turning import Loop
from agent.health.evidence import CanaryFailed, CanaryOk, Event, Failure
from agent.health.owner import Owner
from agent.health.patience import canary_window_s, ping_window_s
from agent.health.policy import Policy
from agent.health.state import HealthState, State

_LOOPBACK_TRIES = 5
"""Canaries from the node's loopback that may fail before a registry is asked instead; then seldom more."""
_LOOPBACK_AGAIN_S = 60.0
_REGISTRY_S, _REGISTRY_WORRIED_S, _REGISTRY_IDLE_S = 60.0, 10.0, 300.0
"""Between two canaries that ask a registry: many nodes ask the same one. While the mirror is under suspicion or down;
and where no registry has ever answered through it."""
_REGISTRY_ASKED_S = 1.0
"""Between two that the machine asks for: a suspicion asks for one after the other, and a registry must not pay."""


class Probing:
    """The probes of one session. `state` and `policy` give the session's own; `before` is called before an answer of a
    probe counts (it looks at the listener's owner); `sooner` has the next beat so many seconds from now at the latest.
    `reach` is what was learned before; `mute` hears that canaries came back once, and cannot from where the mirror is
    now.
    """

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        origins: Origins,
        post: Callable[[Event], None],
        *,
        canary: CanaryObject,
        canary_port: Callable[[], int | None],
        state: Callable[[], State],
        policy: Callable[[], Policy],
        before: Callable[[], None],
        sooner: Callable[[float], None],
        lifted_at: Callable[[], float],
        reach: Reach,
        mute: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._origins = origins
        self._post = post
        self._state = state
        self._policy = policy
        self._before = before
        self._sooner = sooner
        self._lifted_at = lifted_at
        cap_s = settings.policy.window_cap_s
        self._pinger = Pinger(loop, settings.ping, post, cap_s=cap_s)
        self._canary = Canary(loop, settings.proxy, canary, canary_port, self._late_canary, cap_s=cap_s)
        self._registry = RegistryCanary(loop, settings.proxy, origins.status)
        self._sentinel = Sentinel(loop, settings.proxy, post)
        metrics = settings.metrics
        self._counters: Counters | None = None
        if metrics is not None and near(metrics, settings.proxy):
            self._counters = Counters(loop, metrics, post, self._counters_count, self._blind)
        self._ping_runs = self._canary_runs = self._canary_wanted = False
        self._pinged_at = self._canary_at = float("-inf")
        """When the last ping began, and when the last canary was over."""
        self.reach = reach
        self._mute = mute
        known = state()
        self._here = known.local if known.owner is Owner.UNKNOWN else known.owner is not Owner.NONE
        """Something listened on the mirror's port of this node when that was looked at last."""
        self._accepts = True
        """The mirror took the last canary, whatever became of it."""
        self._loopback_due = self._registry_due = float("-inf")
        self._asked_at = float("-inf")
        self._turn = self._unanswered = 0
        """Whose turn of the registries it is; and how many in succession cannot vouch for the mirror."""

    def beat(self, every_s: float) -> None:
        """With each beat: begin what is due. `every_s` is the time between two beats, of which the nearest is taken."""
        now, policy = self._loop.time(), self._policy()
        if not self._ping_runs and now - self._pinged_at >= policy.interval_s - every_s / 2:
            self._ping_runs, self._pinged_at = True, now
            self._pinger.begin(ping_window_s(self._state(), policy), self._pinged)
        # Rather a beat early than one late: this bounds when a data path that hangs is noticed.
        due = now - self._canary_at >= policy.canary_interval_s - 0.75 * every_s
        if not self._canary_runs and (due or self._canary_wanted):
            self._begin_canary()

    def ask_canary(self) -> None:
        """Send one now."""
        self._registry_due = min(self._registry_due, self._asked_at + _REGISTRY_ASKED_S)
        self._canary_wanted = True
        if not self._canary_runs:
            self._sooner(0)

    @property
    def vouch_s(self) -> float:
        """How long a clean canary speaks for the mirror: until the next one is overdue."""
        policy = self._settings.policy
        return policy.vouch_s if self._counts else 1.1 * _REGISTRY_S + 2 * policy.canary_window_s

    def owner_judged(self) -> None:
        """Where the listener has come to this node, or has left it, what canaries can reach is learned anew, and
        registries are asked as soon as it is their turn. A socket that gets nothing of the mirror's is no listener.
        """
        owner = self._state().owner
        here = self._here if owner is Owner.UNKNOWN else owner is not Owner.NONE
        if here is not self._here:
            self._here = here
            self.reach = replace(self.reach, loopback=False, failures=0)
            self._turn = self._unanswered = 0
            self._registry_due = float("-inf")

    def begin(self) -> None:
        """What is rarer; the others begin with the beats."""
        self._sentinel.begin()
        self._origins.begin()
        if self._counters is not None:
            self._counters.begin()

    def close(self) -> None:
        """Begin nothing any more, and wait for no answer."""
        for each in (self._pinger, self._canary, self._registry, self._sentinel, self._origins, self._counters):
            if each is not None:
                each.close()

    def _pinged(self, event: Pinged) -> None:
        self._ping_runs, policy = False, self._policy()
        if not policy.canary:
            self._before()  # a mirror that has just come up is local from its first answer on
        self._post(event)
        late_s = self._loop.time() - self._pinged_at - policy.interval_s
        if late_s > 0:  # the beat at which the next one was due is past
            self._sooner(policy.interval_s / 4)

    def _begin_canary(self) -> None:
        """A canary of one kind or the other, or none: a registry is asked seldom."""
        self._canary_runs, self._canary_wanted = True, False
        now = self._loop.time()
        if self._counts or self.reach.failures < _LOOPBACK_TRIES or now >= self._loopback_due:
            self._loopback_due = now + _LOOPBACK_AGAIN_S
            self._canary.begin(canary_window_s(self._state(), self._policy()), self._canaried)
        else:
            self._go_on()

    def _canaried(self, event: Result | None) -> None:
        if isinstance(event, CanaryOk) and not self.reach.loopback:
            self.reach = replace(self.reach, loopback=True)
        refused = isinstance(event, CanaryFailed) and event.failure is Failure.REFUSED
        self._accepts = not refused
        # That nobody takes a connection accuses the mirror wherever it is, once canaries have come back.
        if event is not None and (self._counts or (refused and self._policy().canary)):
            self._before()  # before a clean canary lifts anything
            self._post(event)
        elif event is not None and self.reach.failures < _LOOPBACK_TRIES:
            self.reach = replace(self.reach, failures=self.reach.failures + 1)
        self._go_on()

    def _go_on(self) -> None:
        """A registry's turn, where the loopback is out of the mirror's reach."""
        now = self._loop.time()
        if self.reach.failures >= _LOOPBACK_TRIES and not self._counts and now >= self._registry_due:
            self._asked_at = now
            self._ask_registry()
        else:
            self._canary_is_over()

    def _canary_is_over(self) -> None:
        self._canary_runs, self._canary_at = False, self._loop.time()
        if self._canary_wanted:  # asked for meanwhile: that one began too early
            self._sooner(0)

    def _ask_registry(self) -> None:
        """One that is in use and answers; it counts from its first success on."""
        good = self._origins.good()
        if not good:
            if not self._origins.any:
                self._nobody_can_tell()
            self._registry_is_over(_REGISTRY_WORRIED_S)
            return
        origin = good[self._turn % len(good)]
        window_s = canary_window_s(self._state(), self._policy())
        self._registry.begin(origin, window_s, lambda event: self._registry_asked(origin, len(good), event))

    def _registry_asked(self, origin: Origin, many: int, event: Result | None) -> None:
        if isinstance(event, CanaryOk) and origin.name not in self.reach.proved:
            self.reach = replace(self.reach, proved=self.reach.proved | {origin.name})
        if event is not None and origin.name in self.reach.proved:
            self._unanswered = 0
            self._before()
            self._post(event)
            rest_s = _REGISTRY_S if self._state().health_state is HealthState.HEALTHY else _REGISTRY_WORRIED_S
        else:
            self._turn += 1
            can_vouch = origin.name in self.reach.proved and self._registry.answers
            self._unanswered = 0 if can_vouch else self._unanswered + 1
            tries = self._unanswered < 2 * many  # also where one has vouched: it may be gone for good
            rest_s = _REGISTRY_WORRIED_S if tries else _REGISTRY_IDLE_S
            if not tries:
                self._nobody_can_tell()
        self._registry_is_over(rest_s)

    def _nobody_can_tell(self) -> None:
        """No canary comes back from where the mirror is now, although it takes them."""
        if self._accepts and self._policy().canary:
            self._mute()

    def _registry_is_over(self, rest_s: float) -> None:
        """A round; registries are left in peace for so long."""
        if self._canary_wanted:
            rest_s = _REGISTRY_ASKED_S
        self._registry_due = self._loop.time() + jittered(rest_s)
        self._canary_is_over()

    @property
    def _counts(self) -> bool:
        """Whether a canary from the node's loopback says anything: a mirror elsewhere may not be able to reach it, so
        it counts from its first success, or from when the mirror's listener was seen on this node.
        """
        state = self._state()
        return self.reach.loopback or (state.local and state.owner is not Owner.NONE)

    def _late_canary(self, event: CanaryOk) -> None:
        if self._counts:
            self._post(event)

    def _blind(self) -> bool:
        return self._state().symptoms_unknown != ""

    def _counters_count(self) -> bool:
        now = self._loop.time()
        return self._state().local and self._state().fence is None and now - self._lifted_at() > _COUNTERS_SETTLE_S


_COUNTERS_SETTLE_S = 3.0
"""After the fence was lifted: what it has ended is counted by then."""
