"""`nydus-agent rollback`: bring the node back to what it was after an earlier generation, and prove it."""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import generations, rollback
from agent.commands import proof_lines
from agent.commands.apply import tell
from agent.commands.context import Context
from agent.commands.plan import display, generation
from agent.commands.plan_file import plan_body
from agent.commands.running import add_now, surroundings, urgency_of
from agent.errors import Exit

HELP = "bring this node back to what it was after an earlier generation, and prove it"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "to",
        metavar="N",
        nargs="?",
        type=generation,
        help="the generation; default: the state before the present one",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only show what would change, as diffs")
    add_now(how.add_argument)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, PlanError (nothing touched), LockedError, ApplyError."""
    config = context.load_config().config
    ports = wire.root_ports(config)
    if args.dry_run:
        target = rollback.choose(ports.files, args.to)
        _config, _facts, plan = rollback.look_back(config, ports, target)
        display(plan, context)
        context.console.emit("Plan", plan_body(plan, target.effective))
        return Exit.OK
    urgency = urgency_of(now=args.now)
    each = proof_lines.progress(context.console)
    with surroundings(context.console) as around:
        with ports.ledger.lock("rollback"):
            outcome = rollback.roll_back(config, ports, around, each, to=args.to, urgency=urgency)
        newest = generations.newest(ports.files)
        exit_ = tell(
            outcome, ports, context, "RollbackResult", to=newest.state if newest is not None else None
        )
        if outcome.result.generation is not None and newest is not None:
            context.console.line(f"the node is as it was after generation {newest.state}")
            context.console.line(
                "the configuration is as it was: it holds again with the next nydus-agent apply"
            )
    return exit_
