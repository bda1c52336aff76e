"""`nydus-agent drill`: rehearses the switch on a node that serves. The mirror looks dead or hung to this node
for a while, the agent does what it always does, and the times are printed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import structlog

from agent import paths, wire
from agent.catalogue.messages import Message
from agent.commands.context import Context
from agent.commands.drill import rehearsal
from agent.commands.drill.rehearsal import DrillOutcome, Rehearsal, WantedDrill
from agent.commands.running import surroundings
from agent.commands.state.picture import Picture, take
from agent.console import Format, Tone, Toned, error_body, exit_of
from agent.daemon.documents import Document, applied
from agent.daemon.lease import NYDUSD
from agent.daemon.settings import Settings, settings
from agent.documents.status import DaemonStatus
from agent.durations import duration_option, in_words
from agent.errors import AgentError, Exit
from agent.node.machine import node_identity
from agent.ports import DrillKind, DrillPorts, DrillScope

HELP = "rehearse the mirror's failure on this node, and print how fast reads switch"
NEEDS_ROOT = True

_HELPS = {
    DrillKind.DOWN: "the mirror looks dead: connections to it are refused, open ones end",
    DrillKind.HANG: "the mirror looks hung: packets to it are lost without a word",
}


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
    kind, console, clock = DrillKind(args.kind), context.console, ports.clock
    with ports.ledger.lock(f"drill {kind}"):  # no change, no removal and no other drill meanwhile
        picture = take(context, clock.now())
        _refuse(picture, now, force=args.force)
        wanted = _wanted(kind, args.seconds, picture, ports, now, context)
        tell = console.line if console.format is Format.TEXT else console.progress
        tell(_warning(wanted, now, picture))
        log = structlog.get_logger()
        begun = f"drill {kind} for {in_words(args.seconds)}, asked for by {context.asker}: "
        told = f"{begun}begins"
        log.info(told, message_id=Message.DRILL)
        with surroundings(console) as around:
            rehearsed = Rehearsal(
                ports.drill, clock, lambda: take(context, clock.now()),
                tell=tell, passing=console.passing, stopped=lambda: around.stop.signal or "",
            )  # fmt: skip
            outcome = rehearsed.run(wanted)
        told = f"{begun}{_sentence(outcome)}"
        log.info(told, message_id=Message.DRILL)
    return _answer(context, wanted, outcome)


def _refuse(picture: Picture, now: Settings, *, force: bool) -> None:
    """Raises AgentError NNA1020."""
    why = rehearsal.refusal(picture)
    if why:
        raise AgentError("NNA1020", "no drill may begin now", cause=why, try_="nydus-agent status")
    penalty = _penalty(picture)
    if rehearsal.is_held(now.policy, penalty) and not force:
        held = in_words(rehearsal.return_s(now.policy, penalty, 0))
        cause = (
            f"the flap penalty is {penalty:.0f}: one outage more would keep reads at the origin for "
            f"about {held}"
        )
        raise AgentError("NNA1020", "no drill may begin now", cause=cause, try_="try later, or add --force")


def _penalty(picture: Picture) -> float:
    """0 where it is not published."""
    daemon = picture.daemon
    known = daemon.penalty if isinstance(daemon, DaemonStatus) else None
    return known.value if known is not None else 0.0


def _wanted(
    kind: DrillKind, seconds: int, picture: Picture, ports: DrillPorts, now: Settings, context: Context
) -> WantedDrill:
    """Raises AgentError NNA1020 where the agent's process has gone meanwhile."""
    pid = picture.daemon.pid if isinstance(picture.daemon, DaemonStatus) else 0
    try:
        uid = Path(context.path(f"/proc/{pid}")).stat().st_uid
    except OSError as error:
        raise AgentError("NNA1020", "no drill may begin now", cause=f"pid {pid}: {error.strerror}") from None
    nydusd = {cgroup for found in ports.cgroups.of_processes(*NYDUSD).values() for cgroup in found}
    proxy, ping = (now.proxy.host, now.proxy.port), (now.ping.host, now.ping.port)
    scope = DrillScope(proxy, ping, uid, tuple(sorted(nydusd)))
    return WantedDrill(kind, seconds, scope, rehearsal.return_s(now.policy, _penalty(picture), seconds))


def _warning(wanted: WantedDrill, now: Settings, picture: Picture) -> str:
    what = "refused" if wanted.kind is DrillKind.DOWN else "lost"
    slot = now.policy.return_delay_s
    fleet = f", of which {in_words(slot)} are this node's slot in the fleet's return" if slot >= 1 else ""
    held = " (the flap penalty holds it back)" if rehearsal.is_held(now.policy, _penalty(picture)) else ""
    return (
        f"connections to {now.proxy.authority} are {what} for {in_words(wanted.seconds)}; this counts as an "
        f"outage; reads should be back within {in_words(wanted.return_s)} after it{held}{fleet}"
    )


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


def _answer(context: Context, wanted: WantedDrill, outcome: DrillOutcome) -> Exit:
    """Raises KeyboardInterrupt where a signal ended the drill."""
    console, wrong = context.console, rehearsal.problem(outcome)
    exit_ = exit_of(wrong) if wrong is not None else Exit.OK
    console.line(
        Toned(_sentence(outcome), Tone.GOOD if exit_ is Exit.OK and not outcome.stopped else Tone.BAD)
    )
    body = {
        "drill": wanted.kind, "for_s": wanted.seconds, "by": context.asker, "result": outcome.result,
        "exit": None if outcome.stopped else int(exit_), "expected_return_s": round(wanted.return_s, 1),
        **asdict(outcome), "problem": error_body(wrong) if wrong is not None else None,
    }  # fmt: skip
    console.emit("Drill", body)
    if outcome.stopped:
        raise KeyboardInterrupt
    if wrong is not None and console.format is Format.TEXT:
        console.error(wrong)
    return exit_
