"""`nydus-agent recover`: finish or undo an interrupted change.

Run at boot, before the runtimes start; or by hand.
"""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import recover, rollback
from agent.commands.context import Context
from agent.commands.running import config_or_record, surroundings
from agent.errors import Exit
from agent.records.generations import TakenBack

HELP = "finish or undo an interrupted change"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "--files-only",
        action="store_true",
        help="wait for no job of systemd (the default where containerd does not run, as at boot)",
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises LockedError, ApplyError (NNA0403: something could not be put back; NNA0410)."""
    config = config_or_record(context)
    ports = wire.root_ports(config)
    taken = None
    with surroundings(context.console) as around:
        with ports.ledger.lock("recover"):
            jobs = not args.files_only and recover.runtime_runs(ports)
            waits = rollback.of_an_earlier_boot(ports)
            done = recover.finish(ports, jobs=jobs, say=around.say)
            if done is None:
                ports.ledger.close()  # what a change left that was killed before it began
            if waits is not None and jobs:
                taken = rollback.take_back(config, ports, around)
            elif waits is not None:
                taken = rollback.take_back_files(config, ports, around, waits)
        return tell(done, context, taken)


def tell(done: recover.Recovered | None, context: Context, taken: TakenBack | None = None) -> Exit:
    """Say what was found and done; `taken`: a change that was not confirmed before the reboot."""
    body = {
        "recovered": done is not None,
        "finished": bool(done and done.finished),
        "put_back": done.restored if done else (),
        "taken_back": taken.why if taken is not None else "",
    }
    context.console.emit("RecoverResult", body)
    if taken is not None:
        context.console.line(taken.why)
    elif done is None:
        context.console.line("nothing to recover")
    if done is not None and done.finished:
        context.console.line(f"an interrupted {done.verb} had been accepted; it is finished")
    elif done is not None:
        context.console.line(f"an interrupted {done.verb} was undone: the node is as it was before")
        for one in done.restored:
            context.console.line(f"  put back: {one}")
    return Exit.OK
