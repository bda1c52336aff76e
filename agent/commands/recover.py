"""`nydus-agent recover`: finish or undo an interrupted change. Run at boot, before the runtimes start; or by hand."""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import recover
from agent.commands.context import Context
from agent.commands.running import surroundings
from agent.config.model import Config
from agent.errors import ConfigError, Exit

HELP = "finish or undo an interrupted change"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "--files-only",
        action="store_true",
        help="restart nothing (the default where containerd does not run, as at boot)",
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises LockedError, ApplyError (NNA0403: something could not be put back; NNA0410)."""
    # A broken configuration must not keep a node from being put back: only the socket's address is of use here.
    try:
        config = context.load_config().config
    except ConfigError:
        config = Config()
    ports = wire.root_ports(config)
    with surroundings(context.console) as around, ports.ledger.lock("recover"):
        jobs = not args.files_only and recover.runtime_runs(ports)
        done = recover.finish(ports, jobs=jobs, say=around.say)
        if done is None:
            ports.ledger.close()  # what a change left that was killed before it began
    return tell(done, context)


def tell(done: recover.Recovered | None, context: Context) -> Exit:
    """Say what was found and done."""
    context.console.emit(
        "RecoverResult",
        {
            "recovered": done is not None,
            "finished": bool(done and done.finished),
            "put_back": list(done.restored) if done else [],
        },
    )
    if done is None:
        context.console.line("nothing to recover")
    elif done.finished:
        context.console.line(f"an interrupted {done.verb} had been accepted; it is finished")
    else:
        context.console.line(f"an interrupted {done.verb} was undone: the node is as it was before")
        for one in done.restored:
            context.console.line(f"  put back: {one}")
    return Exit.OK
