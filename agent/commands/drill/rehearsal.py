"""A drill from its begin to the mirror's return, measured on what the daemon publishes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.commands.state.picture import Agent, Picture
from agent.commands.state.why import left_s
from agent.console import counted
from agent.documents.status import DaemonStatus
from agent.durations import in_words
from agent.errors import AgentError
from agent.health import damping
from agent.health.damping import Flap
from agent.health.policy import Policy
from agent.ports import Clock, Drill, DrillKind, DrillScope, Struck

SWITCH_S = 8.0
"""A drill that moves no reads by then is given up: nydusd would give a read up after ten (its timeout)."""
FAST_MS = 1000.0
"""What the route is promised to take (docs/design.md)."""
MARGIN_S = 10.0
"""For the agent's own rounds and a busy node, on top of what the policy says."""
_POLL_S = 0.05
_GONE_S = 4.0
"""An agent that is restarted, by its watchdog too, publishes again before that; the fence's lease is
longer.
"""


@dataclass(frozen=True, slots=True)
class WantedDrill:
    """What to rehearse."""

    kind: DrillKind
    seconds: float
    scope: DrillScope
    return_s: float
    """How long the way back may take by the policy; see `return_s`."""


@dataclass(slots=True)
class DrillOutcome:
    """What was seen. Times in seconds since the epoch; None: it did not come to that."""

    began: float
    struck: Struck = field(default_factory=lambda: Struck(0, 0))
    switched_ms: float | None = None
    """From the drill's begin to the route's change."""
    why: str = ""
    evidence: str = ""
    destroyed: int | None = None
    """Connections that the agent has ended meanwhile."""
    given_up: str = ""
    """Why the drill was ended before its time: reads went back to the mirror, or the agent is gone."""
    ended: float | None = None
    returned_s: float | None = None
    """From the drill's end to the route's change back."""
    waits_for: tuple[str, ...] = ()
    stopped: str = ""
    """The signal that ended it; "" = none."""

    @property
    def result(self) -> str:
        """One word of the JSON answer."""
        if self.stopped:
            return "interrupted"
        if self.switched_ms is None:
            return "not-switched"
        if self.given_up:
            return "given-up"
        if self.returned_s is None:
            return "not-back"
        return "slow" if self.switched_ms > FAST_MS else "switched"


def return_s(policy: Policy, penalty: float, seconds: float) -> float:
    """How long the mirror's return may take after a drill of `seconds`: dwell and successes, a canary, this
    node's slot in the fleet's return, and what is left of a flap penalty (of `penalty` now) that holds it
    back.
    """
    # The jitter of pings and canaries is a tenth; a canary may have begun just before the end, and fails.
    rise_s = max(policy.dwell_s - seconds, 1.1 * policy.rise * policy.interval_s, 0.0)
    canary_s = 1.1 * policy.canary_interval_s + 2 * policy.canary_window_s
    held_s = damping.held_s(_one_more(policy, penalty), 0.0, policy) - seconds
    return max(rise_s + canary_s, held_s) + policy.return_delay_s


def is_held(policy: Policy, penalty: float) -> bool:
    """Whether one outage more makes the flap penalty hold the mirror back for minutes."""
    return _one_more(policy, penalty).suppressed


def _one_more(policy: Policy, penalty: float) -> Flap:
    return damping.after_outage(Flap(penalty), 0.0, policy)


def refusal(picture: Picture) -> str:
    """Why no drill may begin on this node now; "" = it may."""
    daemon = picture.daemon
    if picture.agent is not Agent.RUNNING or not isinstance(daemon, DaemonStatus):
        return f"the agent is {picture.agent.words}: nothing would send reads to the origin"
    if daemon.mode != "fence":
        return f"only the fence can move reads; the mode is {daemon.mode}: {daemon.mode_reason}"
    if picture.valid_pin is not None:
        return f"reads are pinned to the {picture.valid_pin.route}: nothing would switch"
    if daemon.health_state != "healthy" or daemon.route != "mirror":
        return f"reads go to the {daemon.route}, the mirror is {daemon.health_state}: {daemon.health_reason}"
    bad = [origin.host for origin in daemon.origins if origin.ok is False]
    if bad:
        return f"the origin does not answer: {', '.join(bad)}"
    if daemon.origins and not any(origin.ok for origin in daemon.origins):
        return "no origin has answered yet: reads must have somewhere to go"
    return ""


class Rehearsal:
    """One drill. `look` reads what is published, `tell` says a line, `passing` one that the next one
    replaces, and `stopped` names the signal that came ("" = none).
    """

    def __init__(
        self,
        drill: Drill,
        clock: Clock,
        look: Callable[[], Picture],
        *,
        tell: Callable[[str], None],
        passing: Callable[[str], None],
        stopped: Callable[[], str],
    ) -> None:
        self._drill = drill
        self._clock = clock
        self._look = look
        self._tell = tell
        self._passing = passing
        self._stopped = stopped
        self._began = 0.0

    def run(self, wanted: WantedDrill) -> DrillOutcome:
        """Raises FenceError where the drill could not begin; the drill has ended in every case."""
        before = _daemon(self._look())
        self._began = self._clock.monotonic()
        outcome = DrillOutcome(self._clock.now())
        try:
            outcome.struck = self._drill.begin(wanted.kind, wanted.scope, wanted.seconds)
            self._say(f"the drill begins: {_struck(wanted.kind, outcome.struck)}")
            self._await_switch(wanted, outcome)
            if outcome.switched_ms is not None:
                self._hold(wanted, outcome)
        finally:
            self._drill.end()
            self._passing("")
        outcome.ended = self._clock.now()
        after = _daemon(self._look())
        if before is not None and after is not None and outcome.switched_ms is not None:
            outcome.destroyed = max(0, after.fence.destroyed_connections - before.fence.destroyed_connections)
            self._say(f"the agent has ended {counted(outcome.destroyed, 'connection')} of nydusd meanwhile")
        early = f" early, because {outcome.given_up}" if outcome.given_up else ""
        self._say(f"the drill ends{early}: the mirror is back")
        if outcome.switched_ms is not None and not outcome.stopped and not outcome.given_up:
            self._await_return(wanted, outcome)
        return outcome

    def _await_switch(self, wanted: WantedDrill, outcome: DrillOutcome) -> None:
        until = self._began + min(wanted.seconds, SWITCH_S)
        while self._clock.monotonic() < until and not self._is_stopped(outcome):
            daemon = _daemon(self._look())
            if daemon is not None and daemon.route == "origin":
                outcome.switched_ms = 1000 * self._since(outcome.began, daemon, self._began)
                last = daemon.history[-1] if daemon.history else None
                outcome.why, outcome.evidence = (
                    daemon.health_reason,
                    last.evidence if last is not None else "",
                )
                evidence = f" ({outcome.evidence})" if outcome.evidence else ""
                self._say(
                    f"reads go to the origin, after {outcome.switched_ms:.0f} ms: {outcome.why}{evidence}"
                )
                return
            self._passing(
                f"the mirror looks dead; reads still go to it ({self._clock.monotonic() - self._began:.1f} s)"
            )
            self._clock.sleep(_POLL_S)

    def _hold(self, wanted: WantedDrill, outcome: DrillOutcome) -> None:
        until = self._began + wanted.seconds
        alive_at = self._clock.monotonic()
        while (left := until - self._clock.monotonic()) > 0 and not self._is_stopped(outcome):
            picture = self._look()
            daemon = _daemon(picture)
            if picture.agent is Agent.RUNNING:
                alive_at = self._clock.monotonic()
            elif self._clock.monotonic() - alive_at > _GONE_S:
                outcome.given_up = f"the agent is {picture.agent.words}"
                return
            if daemon is not None and daemon.route != "origin" and picture.agent is Agent.RUNNING:
                outcome.given_up = f"reads went to the {daemon.route} before its end: {daemon.route_reason}"
                return
            self._passing(
                f"the drill goes on for another {in_words(math.ceil(left))}; reads go to the origin"
            )
            self._clock.sleep(min(left, 0.2))

    def _await_return(self, wanted: WantedDrill, outcome: DrillOutcome) -> None:
        ended = self._clock.monotonic()
        until = ended + wanted.return_s + MARGIN_S
        while not self._is_stopped(outcome):
            picture = self._look()
            daemon = _daemon(picture)
            if daemon is not None and daemon.route == "mirror":
                outcome.returned_s = self._since(outcome.ended or 0.0, daemon, ended)
                self._passing("")
                self._say(
                    f"reads go to the mirror again, after {outcome.returned_s:.1f} s: {daemon.health_reason}"
                )
                return
            outcome.waits_for = (
                daemon.return_.waits_for if daemon is not None and daemon.return_ is not None else ()
            )
            if self._clock.monotonic() >= until:
                break
            left = left_s(picture, daemon) if daemon is not None else None
            known = f" ({in_words(left)} at least)" if left is not None else ""
            self._passing(
                f"waiting for reads to go back: {', '.join(outcome.waits_for) or 'the mirror'}{known}"
            )
            self._clock.sleep(4 * _POLL_S)
        self._passing("")

    def _since(self, at: float, daemon: DaemonStatus, begun: float) -> float:
        """Seconds from `at` to the route's change by the daemon's clock; where that clock was stepped
        meanwhile, by when the change was seen here.
        """
        seen = self._clock.monotonic() - begun
        told = daemon.route_since - at
        return told if 0 <= told <= seen + 0.05 else seen

    def _is_stopped(self, outcome: DrillOutcome) -> bool:
        outcome.stopped = outcome.stopped or self._stopped()
        return bool(outcome.stopped)

    def _say(self, text: str) -> None:
        self._passing("")
        self._tell(f"[{self._clock.monotonic() - self._began:6.1f} s] {text}")


def problem(outcome: DrillOutcome) -> AgentError | None:
    """What a drill has shown to be wrong; None: nothing, or it was interrupted."""
    match outcome.result:
        case "not-switched":
            return AgentError(
                "NNA1021", "reads did not switch",
                cause=f"they still went to the mirror after up to {SWITCH_S:.0f} s; "
                "the drill was ended", try_="nydus-agent status --why",
            )  # fmt: skip
        case "not-back":
            waits = f"the agent still waits for: {', '.join(outcome.waits_for)}" if outcome.waits_for else ""
            what = "reads did not come back to the mirror in the expected time"
            return AgentError("NNA1022", what, cause=waits, try_="nydus-agent status --why")
        case "given-up":
            what = "the drill was given up"
            return AgentError("NNA1021", what, cause=outcome.given_up, try_="nydus-agent events -n 10")
        case "slow":
            what = f"reads switched after {outcome.switched_ms:.0f} ms, which is more than {FAST_MS:.0f}"
            return AgentError("NNA1022", what, cause=outcome.why, try_="nydus-agent events -n 10")
        case _:
            return None


def _daemon(picture: Picture) -> DaemonStatus | None:
    return picture.daemon if isinstance(picture.daemon, DaemonStatus) else None


def _struck(kind: DrillKind, struck: Struck) -> str:
    what = "ended" if kind is DrillKind.DOWN else "silenced"
    return f"{what} are {counted(struck.nydusd, 'connection')} of nydusd and {struck.agent} of the agent"
