"""`nydus-agent revert`: take back the change that waits for its confirmation. systemd runs it when the time
is over.
"""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import revert
from agent.apply.unconfirmed import TakenBack
from agent.commands import proof_lines
from agent.commands.context import Context
from agent.commands.running import surroundings
from agent.config.model import Config
from agent.errors import ConfigError, Exit

HELP = "take back, now, the change that waits for its confirmation"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The transaction, of the alarm."""
    parser.add_argument(
        "id", metavar="ID", nargs="?", default="",
        help="only if it is this transaction, which had its time: it is ended where it is still under way",
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises LockedError, ApplyError, PlanError."""
    config = config_or_default(context)
    ports = wire.root_ports(config)
    lock = revert.lock(ports, args.id) if args.id else ports.ledger.lock("revert")
    with surroundings(context.console) as around:
        with lock:
            done = revert.take_back(
                config, ports, around, proof_lines.progress(context.console), only=args.id
            )
        return tell(done, context)


def config_or_default(context: Context) -> Config:
    """A broken configuration must not keep a node from being put back: what was applied is in the records."""
    try:
        return context.load_config().config
    except ConfigError:
        return Config()


def tell(done: TakenBack | None, context: Context) -> Exit:
    """Say what became of the change."""
    context.console.line(done.why if done is not None else "nothing waits for a confirmation")
    body = {
        "changed": done is not None,
        "generation": done.generation if done is not None else None,
        "why": done.why if done is not None else "",
    }
    context.console.emit("RevertResult", body)
    return Exit.OK
