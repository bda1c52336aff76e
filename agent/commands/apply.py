"""`nydus-agent apply`: carry the plan out as one transaction, and prove it."""

from __future__ import annotations

import argparse

from agent import paths, wire
from agent.apply import change, generations
from agent.apply.climb import body as climb_body
from agent.apply.gate import Urgency
from agent.commands import ladder, turn
from agent.commands.context import Context
from agent.commands.plan import body as plan_body
from agent.commands.running import surroundings
from agent.errors import Exit
from agent.ports import Ports

HELP = "change this node into what the configuration wants, and prove it; or leave it as it was"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--on-install", action="store_true", help="do nothing unless [apply] on_install is set")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--now", action="store_true",
        help='restart what has to restart now, whatever restarts_per_hour and restart = "never" say',
    )  # fmt: skip
    when.add_argument(
        "--in-turn", action="store_true",
        help="nobody waits for this: leave half of restarts_per_hour, and restart at this node's turn in [fleet] "
        "restart_window_s (nydus-agent-apply.service does so)",
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, PlanError, LockedError, ApplyError."""
    config = context.load_config().config
    if args.on_install and not config.apply.on_install:
        return _nothing(context, "nothing is done: [apply] on_install is not set; run nydus-agent apply")
    ports = wire.root_ports(config)
    if args.on_install and (hold := generations.hold(ports.files)):
        return _nothing(context, f"nothing is done: {hold}")
    if not ports.units.running():
        return _nothing(context, "deferred to boot: systemd does not run here")
    urgency = Urgency.NOW if args.now else Urgency.BY_ITSELF if args.in_turn else Urgency.BY_HAND
    with surroundings(context.console) as around:
        if args.in_turn:
            turn.wait(config, ports, around.stop, context.console)
        with ports.ledger.lock("apply"):
            outcome = change.apply(config, ports, around, ladder.progress(context.console), urgency=urgency)
    return tell(outcome, ports, context, "ApplyResult")


def _nothing(context: Context, why: str) -> Exit:
    context.console.line(why)
    context.console.emit("ApplyResult", {"changed": False, "reason": why})
    return Exit.OK


def tell(outcome: change.Outcome, ports: Ports, context: Context, kind: str, **more: object) -> Exit:
    """Say what an apply or a rollback did; `more` goes into the JSON document too."""
    console = context.console
    for warning in outcome.plan.warnings:
        console.warn(warning)
    if outcome.recovered is not None and not outcome.recovered.finished:
        console.line(f"an interrupted {outcome.recovered.verb} was undone first")
    climb, result = outcome.climb, outcome.result
    document = {
        "changed": result.changed,
        "generation": result.generation,
        "recovered": outcome.recovered is not None,
        "steps": [{"what": step.what, "took_s": round(step.took_s, 3)} for step in result.steps],
        "plan": plan_body(outcome.plan, outcome.effective),
        "proof": climb_body(climb) if climb is not None else None,
        **more,
    }
    console.emit(kind, document)
    if climb is None:
        console.line("nothing to do: the node is as wanted")
        return Exit.OK
    took = sum(step.took_s for step in result.steps)
    console.line(f"generation {result.generation} is in force ({len(result.steps)} steps in {took:.1f} s)")
    console.line(ladder.verdict(climb))
    if ports.files.read(paths.STATUS) is None:
        console.line(f"the agent is not running; start it: systemctl start {paths.AGENT_UNIT}")
    return climb.exit
