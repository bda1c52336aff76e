"""`nydus-agent rollback`: bring the node back to what it was after an earlier generation, and prove it.

It also takes back a change that waits for its confirmation; systemd's timer runs it when the time is over.
"""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import confirm, remove, rollback
from agent.commands.apply import tell
from agent.commands.context import Context
from agent.commands.plan import display, generation, plan_body
from agent.commands.running import add_now, config_or_record, surroundings, urgency_of
from agent.config.model import Config
from agent.errors import Exit
from agent.ports import Ports
from agent.records import generations
from agent.records.generations import Pending, TakenBack

HELP = "bring this node back to what it was after an earlier generation, and prove it"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "to", metavar="N", nargs="?", type=generation,
        help="the generation; default: the state before the present one, or before the change that waits "
             "for its confirmation",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only show what would change, as diffs")
    add_now(how.add_argument)
    how.add_argument("--unconfirmed", metavar="ID", default="", help=argparse.SUPPRESS)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises PlanError (nothing touched), LockedError, ApplyError."""
    config = config_or_record(context)
    ports = wire.root_ports(config)
    if args.unconfirmed:
        return take_back(context, config, ports, args.unconfirmed, late=True)
    waits = confirm.waiting(ports) if args.to is None else None
    if waits is not None and args.dry_run:
        return show(context, config, ports, waits)
    if waits is not None:
        return take_back(context, config, ports, waits.id)
    if args.dry_run:
        return _show_plan(context, config, ports, args.to)
    urgency = urgency_of(now=args.now)
    with surroundings(context.console) as around:
        with ports.ledger.lock("rollback"):
            outcome = rollback.roll_back(config, ports, around, to=args.to, urgency=urgency)
        newest = generations.newest(ports.files)
        to = newest.state if newest is not None else None
        exit_ = tell(outcome, ports, context, "RollbackResult", to=to, taken_back=None)
        if outcome.generation is not None and newest is not None:
            context.console.line(f"the node is as it was after generation {newest.state}")
            context.console.line("agent.toml is as it was: the next nydus-agent apply goes by it")
    return exit_


def take_back(
    context: Context, config: Config, ports: Ports, transaction_id: str, *, late: bool = False
) -> Exit:
    """End the change that waits, unless somebody has ended it meanwhile. `late`: its time is over, so it is
    ended where it is still under way.
    """
    lock = rollback.lock(ports, transaction_id) if late else ports.ledger.lock("rollback")
    with surroundings(context.console) as around:
        with lock:
            done = rollback.take_back(config, ports, around, only=transaction_id)
        return tell_taken(done, context, ports)


def show(context: Context, config: Config, ports: Ports, waits: Pending) -> Exit:
    """What a rollback would change now that `waits` waits."""
    *before, _last = generations.history(ports.files) or (None,)
    if confirm.is_open(ports, waits):
        context.console.line(f"the change to generation {waits.generation} did not end; it would be undone")
        body = {"changed": False, "generation": None, "to": None, "taken_back": ""}
        context.console.emit("RollbackResult", body)
        return Exit.OK
    if before:
        return _show_plan(context, config, ports, before[-1].number)
    plan = remove.plan_removal(generations.in_force(ports.files, config), ports)
    display(plan, context)
    context.console.emit("Plan", plan_body(plan, None))
    return Exit.OK


def _show_plan(context: Context, config: Config, ports: Ports, to: int | None) -> Exit:
    target = rollback.choose(ports.files, to)
    _config, _facts, plan = rollback.look_back(config, ports, target)
    display(plan, context)
    context.console.emit("Plan", plan_body(plan, target.effective))
    return Exit.OK


def tell_taken(done: TakenBack | None, context: Context, ports: Ports) -> Exit:
    """Say what became of the change; None: nothing waits any more."""
    newest = generations.applied(ports.files)
    context.console.line(done.why if done is not None else "nothing waits for a confirmation")
    body = {
        "changed": done is not None,
        "generation": done.generation if done is not None else None,
        "to": newest.state if newest is not None else None,
        "taken_back": done.why if done is not None else "",
    }
    context.console.emit("RollbackResult", body)
    return Exit.OK
