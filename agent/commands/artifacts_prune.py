"""`nydus-agent artifacts prune`: remove sets that nothing on the node needs any more."""

from __future__ import annotations

import argparse

from agent import wire
from agent.commands import artifact_sets
from agent.commands.context import Context
from agent.config.model import Config
from agent.errors import Exit
from agent.ports_install import ArtifactPorts

HELP = "remove sets of programs that nothing on this node needs any more"
NEEDS_ROOT = True
_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--keep", metavar="N", type=_count, help="leave the N latest; default: [artifacts] keep")
    parser.add_argument(
        "--forget-rollbacks", action="store_true",
        help="also sets that only older generations than the one before the present need; rollback N to those is "
        "refused then, until their programs are installed again",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not a number of sets")
    return int(text)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, ArtifactError, LockedError, and what tells that something could not be looked at."""
    config = context.load_config().config
    return prune(args, context, config, wire.artifact_ports(context.root))


def prune(args: argparse.Namespace, context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    from agent.apply.in_use import sets_in_use  # what it needs is long to load, and not for the other actions

    store, console = ports.stores(config.artifacts.directory), context.console
    keep = config.artifacts.keep if args.keep is None else args.keep
    # The lock of changes too: a change that begins meanwhile must not find its programs gone.
    with ports.ledger.lock("artifacts prune"), store.lock("artifacts prune"):
        here = {one.id: one for one in store.sets()}
        needed = sets_in_use(ports, store.directory, reachable=not args.forget_rollbacks)
        gone = (store.prunable if args.dry_run else store.prune)(keep, frozenset(needed))
    verb = "would be removed" if args.dry_run else "removed"
    # The store also removes what has the name of a set and no record that could be read.
    removed = [here[one] for one in gone if one in here]
    unreadable = [one for one in gone if one not in here]
    for one in removed:
        console.line(f"{verb}: set {one.id[: artifact_sets.SHORT]}, {artifact_sets.releases(one)}")
    for set_id in unreadable:
        console.line(f"{verb}: set {set_id[: artifact_sets.SHORT]}, which did not say what it was")
    freed = sum(one.size for one in removed)
    stays = {set_id: needed.get(set_id, "") for set_id in here if set_id not in gone}
    console.line(f"{verb}: {len(gone)} of {len(here) + len(unreadable)} sets, {freed / _MIB:.0f} MiB")
    for set_id, why in stays.items():
        if why:
            console.line(f"  stays: set {set_id[: artifact_sets.SHORT]}: {why}")
    console.emit(
        "ArtifactPrune",
        {
            "dry_run": args.dry_run,
            "removed": [artifact_sets.body(one) for one in removed],
            "unreadable": unreadable,
            "stays": [{"id": set_id, "needed": why} for set_id, why in stays.items()],
            "bytes": freed,
        },
    )
    return Exit.OK
