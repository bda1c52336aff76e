"""`nydus-agent remove`: take everything of ours off the node. Run by hand, or by the package's removal."""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import leftovers, remove
from agent.commands.context import Context
from agent.commands.running import config_or_record, surroundings
from agent.errors import Exit

HELP = "put containerd back as it was, and take the snapshotter and our files off the node"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--force", action="store_true", help="also while containers run on the snapshotter")
    parser.add_argument(
        "--if-applied", action="store_true",
        help=argparse.SUPPRESS,  # of the package's removal: say nothing where nothing was applied
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises LockedError, ApplyError (NNA0411: containers run), PlanError."""
    config = config_or_record(context)
    ports = wire.root_ports(config)
    with surroundings(context.console) as around:
        with ports.ledger.lock("remove"):
            for one in leftovers.settle(ports.files, ports.containerd, context.path("/proc")).problems():
                context.console.warn(f"{one.what}: {one.try_}")
            removed = remove.remove_setup(config, ports, around, force=args.force)
        return tell(removed, context, quiet=args.if_applied)


def tell(removed: remove.Removed | None, context: Context, *, quiet: bool = False) -> Exit:
    """Say what was removed; None: nothing was applied, which is no news where it is `quiet`."""
    console = context.console
    if removed is None:
        if not quiet:
            console.line("nothing to remove: nothing was applied on this node")
        console.emit("RemoveResult", {"changed": False, "stays": []})
        return Exit.OK
    for warning in removed.plan.warnings:
        console.warn(warning)
    console.line("removed: containerd is as it was, and the snapshotter is gone")
    for one in removed.stays:
        console.line(f"  stays: {one}")
    lists = {"stays": removed.stays, "ended": removed.ended, "warnings": removed.plan.warnings}
    console.emit("RemoveResult", {"changed": True, **lists})
    return Exit.OK
