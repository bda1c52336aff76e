"""`nydus-agent drill`: rehearses the switch on a node that serves. The mirror looks dead or hung to this node
for a while, the agent does what it always does, and the times are printed, measured on what it publishes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

from agent import paths, wire
from agent.apply.execute import Stop
from agent.catalogue import Message
from agent.commands.context import Context
from agent.commands.running import surroundings
from agent.commands.state.picture import Agent, Picture, take
from agent.console import Format, Tone, Toned, counted, error_body, exit_of
from agent.daemon.documents import Document, applied
from agent.daemon.lease import NYDUSD
from agent.daemon.settings import Settings, settings
from agent.documents.status import DaemonStatus
from agent.durations import duration_option, in_words
from agent.errors import AgentError, Exit
from agent.health.policy import Policy
from agent.health.state import Flap, after_outage, held_s
from agent.node.machine import node_identity
from agent.ports import DrillKind, DrillPorts, DrillScope, Struck

HELP = "rehearse the mirror's failure on this node, and print how fast reads switch"
NEEDS_ROOT = True

SWITCH_S = 8.0
"""A drill that moves no reads by then is given up: nydusd would give a read up after ten (its timeout)."""
FAST_MS = 1000.0
"""What the route is promised to take (docs/design.md)."""
MARGIN_S = 10.0
"""For the agent's own rounds and a busy node, on top of what the policy says."""
_GONE_S = 4.0
"""An agent that is restarted, by its watchdog too, publishes again before that; the fence's lease is
longer.
"""
_POLL_S = 0.05
_HELPS = {
    DrillKind.DOWN: "the mirror looks dead: connections to it are refused, open ones end",
    DrillKind.HANG: "the mirror looks hung: packets to it are lost without a word",
}


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """mirror-down, mirror-hang."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind in DrillKind:
        one = kinds.add_parser(kind.value, help=_HELPS[kind], allow_abbrev=False)
        one.add_argument(
            "--for", dest="seconds", metavar="TIME", type=duration_option("5s", "10m"), default=30,
            help="how long, from 5s to 10m (default 30s); it ends then whatever happens",
        )  # fmt: skip
        one.add_argument(
            "--force", action="store_true",
            help="also where one outage more makes the flap penalty keep reads at the origin for minutes",
        )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, LockedError, FenceError, AgentError NNA1020 (refused); KeyboardInterrupt after
    a signal.
    """
    config = context.load_config().config
    ports = wire.drill_ports()
    effective = applied(Document(context.path(paths.EFFECTIVE)).load())
    return carry_out(args, context, ports, settings(config, effective, node_identity()))


def carry_out(args: argparse.Namespace, context: Context, ports: DrillPorts, now: Settings) -> Exit:
    """The drill with these ports. Raises as `run` does."""
    kind, console = DrillKind(args.kind), context.console
    with ports.ledger.lock(f"drill {kind}"):  # no change, no removal and no other drill meanwhile
        picture = take(context, ports.clock.now())
        daemon = picture.running
        why = refusal(picture, now.policy, force=args.force)
        if daemon is None or why:
            raise AgentError("NNA1020", "no drill may begin now", cause=why, try_="nydus-agent status")
        scope = _scope(daemon.pid, ports, now, context)
        penalty = daemon.penalty.value if daemon.penalty is not None else 0.0
        expected_s = return_s(now.policy, penalty, args.seconds)
        begun = f"drill {kind} for {in_words(args.seconds)}, asked for by {context.asker}"
        _note(f"{begun}: begins")
        with surroundings(console) as around:
            rehearsal = _Rehearsal(context, ports, around.stop, float(args.seconds), expected_s)
            rehearsal.tell(_warning(kind, args.seconds, expected_s, penalty, now))
            outcome = rehearsal.run(kind, scope)
        _note(f"{begun}: {_sentence(outcome)}")
    wrong = _problem(outcome)
    exit_ = exit_of(wrong) if wrong is not None else Exit.OK
    good = exit_ is Exit.OK and not outcome.stopped
    console.line(Toned(_sentence(outcome), Tone.GOOD if good else Tone.BAD))
    body = {
        "drill": kind, "for_s": args.seconds, "by": context.asker, "result": outcome.result,
        "exit": None if outcome.stopped else int(exit_), "expected_return_s": round(expected_s, 1),
        **asdict(outcome), "problem": error_body(wrong) if wrong is not None else None,
    }  # fmt: skip
    console.emit("Drill", body)
    if outcome.stopped:
        raise KeyboardInterrupt
    if wrong is not None and console.format is Format.TEXT:
        console.error(wrong)
    return exit_


def _note(what: str) -> None:
    """For the journal, where the agent tells of the outage that was no accident."""
    structlog.get_logger().info(what, message_id=Message.DRILL)


def refusal(picture: Picture, policy: Policy, *, force: bool = False) -> str:
    """Why no drill may begin on this node now; "" = it may. `force`: also with a high flap penalty."""
    daemon = picture.running
    if daemon is None:
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
    penalty = daemon.penalty.value if daemon.penalty is not None else 0.0
    if is_held(policy, penalty) and not force:
        held = f"would keep reads at the origin for about {in_words(return_s(policy, penalty, 0))}"
        return f"the flap penalty is {penalty:.0f}: one outage more {held}; try later, or add --force"
    return ""


def return_s(policy: Policy, penalty: float, seconds: float) -> float:
    """How long the mirror's return may take after a drill of `seconds`: dwell and successes, a canary, this
    node's slot in the fleet's return, and what is left of a flap penalty (of `penalty` now) that holds it
    back.
    """
    # The jitter of pings and canaries is a tenth; a canary may have begun just before the end, and fails.
    rise_s = max(policy.dwell_s - seconds, 1.1 * policy.rise * policy.interval_s, 0.0)
    canary_s = 1.1 * policy.canary_interval_s + 2 * policy.canary_window_s
    penalty_s = held_s(_one_more(policy, penalty), 0.0, policy) - seconds
    return max(rise_s + canary_s, penalty_s) + policy.return_delay_s


def is_held(policy: Policy, penalty: float) -> bool:
    """Whether one outage more makes the flap penalty hold the mirror back for minutes."""
    return _one_more(policy, penalty).suppressed


def _one_more(policy: Policy, penalty: float) -> Flap:
    return after_outage(Flap(penalty), 0.0, policy)


def _scope(pid: int, ports: DrillPorts, now: Settings, context: Context) -> DrillScope:
    """Raises AgentError NNA1020 where the agent's process has gone meanwhile."""
    try:
        uid = Path(context.path(f"/proc/{pid}")).stat().st_uid
    except OSError as error:
        raise AgentError("NNA1020", "no drill may begin now", cause=f"pid {pid}: {error.strerror}") from None
    nydusd = {cgroup for found in ports.cgroups.of_processes(*NYDUSD).values() for cgroup in found}
    proxy, ping = (now.proxy.host, now.proxy.port), (now.ping.host, now.ping.port)
    return DrillScope(proxy, ping, uid, tuple(sorted(nydusd)))


def _warning(kind: DrillKind, seconds: int, expected_s: float, penalty: float, now: Settings) -> str:
    what = "refused" if kind is DrillKind.DOWN else "lost"
    slot = now.policy.return_delay_s
    fleet = f", of which {in_words(slot)} are this node's slot in the fleet's return" if slot >= 1 else ""
    held = " (the flap penalty holds it back)" if is_held(now.policy, penalty) else ""
    return (
        f"connections to {now.proxy.authority} are {what} for {in_words(seconds)}; this counts as an "
        f"outage; reads should be back within {in_words(expected_s)} after it{held}{fleet}"
    )


class _Rehearsal:
    """One drill of `seconds`, after which reads should be back within `expected_s`."""

    def __init__(
        self, context: Context, ports: DrillPorts, stop: Stop, seconds: float, expected_s: float
    ) -> None:
        self._context = context
        self._ports = ports
        self._clock = ports.clock
        self._stop = stop
        self._seconds = seconds
        self._expected_s = expected_s
        self._began = self._clock.monotonic()
        self._outcome = DrillOutcome(self._clock.now())

    def tell(self, text: str) -> None:
        """A line of the text answer; beside a JSON answer, on stderr."""
        console = self._context.console
        (console.line if console.format is Format.TEXT else console.progress)(text)

    def run(self, kind: DrillKind, scope: DrillScope) -> DrillOutcome:
        """Raises FenceError where the drill could not begin; the drill has ended in every case."""
        outcome, before = self._outcome, self._look().published
        try:
            outcome.began, self._began = self._clock.now(), self._clock.monotonic()
            outcome.struck = self._ports.drill.begin(kind, scope, self._seconds)
            self._say(f"the drill begins: {_struck(kind, outcome.struck)}")
            self._await_switch()
            if outcome.switched_ms is not None:
                self._hold()
        finally:
            self._ports.drill.end()
        outcome.ended = self._clock.now()
        after = self._look().published
        if before is not None and after is not None and outcome.switched_ms is not None:
            outcome.destroyed = max(0, after.fence.destroyed_connections - before.fence.destroyed_connections)
            self._say(f"the agent has ended {counted(outcome.destroyed, 'connection')} of nydusd meanwhile")
        early = f" early, because {outcome.given_up}" if outcome.given_up else ""
        self._say(f"the drill ends{early}: the mirror is back")
        if outcome.switched_ms is not None and not outcome.stopped and not outcome.given_up:
            self._await_return()
        return outcome

    def _await_switch(self) -> None:
        outcome, until = self._outcome, self._began + min(self._seconds, SWITCH_S)
        while self._clock.monotonic() < until and not self._is_stopped():
            daemon = self._look().published
            if daemon is not None and daemon.route == "origin":
                outcome.switched_ms = 1000 * self._since(outcome.began, daemon, self._began)
                outcome.why = daemon.health_reason
                outcome.evidence = daemon.history[-1].evidence if daemon.history else ""
                evidence = f" ({outcome.evidence})" if outcome.evidence else ""
                after = f"after {outcome.switched_ms:.0f} ms"
                self._say(f"reads go to the origin, {after}: {outcome.why}{evidence}")
                return
            self._clock.sleep(_POLL_S)

    def _hold(self) -> None:
        until = self._began + self._seconds
        alive_at = self._clock.monotonic()
        while (left := until - self._clock.monotonic()) > 0 and not self._is_stopped():
            picture = self._look()
            daemon = picture.running
            if picture.agent is Agent.RUNNING:
                alive_at = self._clock.monotonic()
            elif self._clock.monotonic() - alive_at > _GONE_S:
                self._outcome.given_up = f"the agent is {picture.agent.words}"
                return
            if daemon is not None and daemon.route != "origin":
                went = f"reads went to the {daemon.route} before its end"
                self._outcome.given_up = f"{went}: {daemon.route_reason}"
                return
            self._clock.sleep(min(left, 0.2))

    def _await_return(self) -> None:
        outcome, ended = self._outcome, self._clock.monotonic()
        until = ended + self._expected_s + MARGIN_S
        while not self._is_stopped():
            daemon = self._look().published
            if daemon is not None and daemon.route == "mirror":
                outcome.returned_s = self._since(outcome.ended or 0.0, daemon, ended)
                after = f"after {outcome.returned_s:.1f} s"
                self._say(f"reads go to the mirror again, {after}: {daemon.health_reason}")
                return
            waits = daemon.return_ if daemon is not None else None
            outcome.waits_for = waits.waits_for if waits is not None else ()
            if self._clock.monotonic() >= until:
                break
            self._clock.sleep(4 * _POLL_S)

    def _since(self, at: float, daemon: DaemonStatus, begun: float) -> float:
        """Seconds from `at` to the route's change by the daemon's clock; where that clock was stepped
        meanwhile, by when the change was seen here.
        """
        seen = self._clock.monotonic() - begun
        told = daemon.route_since - at
        return told if 0 <= told <= seen + 0.05 else seen

    def _look(self) -> Picture:
        return take(self._context, self._clock.now())

    def _is_stopped(self) -> bool:
        self._outcome.stopped = self._outcome.stopped or self._stop.signal or ""
        return bool(self._outcome.stopped)

    def _say(self, text: str) -> None:
        self.tell(f"[{self._clock.monotonic() - self._began:6.1f} s] {text}")


def _struck(kind: DrillKind, struck: Struck) -> str:
    what = "ended" if kind is DrillKind.DOWN else "silenced"
    return f"{what} are {counted(struck.nydusd, 'connection')} of nydusd and {struck.agent} of the agent"


def _sentence(outcome: DrillOutcome) -> str:
    """The result in words."""
    if outcome.stopped:
        return f"was ended by {outcome.stopped}"
    if outcome.switched_ms is None:
        return "reads did not switch"
    switched = f"reads switched in {outcome.switched_ms:.0f} ms"
    if outcome.given_up:
        return f"{switched}, and the drill was given up: {outcome.given_up}"
    if outcome.returned_s is None:
        return f"{switched}, and were not back in the expected time"
    return f"{switched} and were back {outcome.returned_s:.1f} s after the mirror"


def _problem(outcome: DrillOutcome) -> AgentError | None:
    """What a drill has shown to be wrong; None: nothing, or it was interrupted."""
    match outcome.result:
        case "not-switched":
            cause = f"they still went to the mirror after up to {SWITCH_S:.0f} s; the drill was ended"
            return AgentError("NNA1021", "reads did not switch", cause=cause, try_="nydus-agent status --why")
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
