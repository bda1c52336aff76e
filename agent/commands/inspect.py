"""`nydus-agent inspect`: climb the ladder and publish the result for everyone. Run by its timer and on request."""

from __future__ import annotations

import argparse

from agent import paths, wire
from agent.apply import change, generations
from agent.apply import climb as climbing
from agent.commands import ladder
from agent.commands.context import Context
from agent.errors import Exit, LockedError
from agent.ports import Ports

HELP = "climb the ladder of proof and publish the result"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001 - one signature for all verbs
    """Exit code 0 where a result was published, whatever it says. Raises ConfigError, FileError."""
    config = context.load_config().config
    ports = wire.root_ports(config)
    # First: a request that comes while we climb is for the next climb.
    ports.files.empty(paths.REQUESTS)
    if _busy(ports):
        context.console.line("a change is under way: it climbs the ladder itself")
        return Exit.OK
    if generations.applied(ports.files) is None:
        context.console.line("nothing was applied on this node yet")
        return Exit.OK
    climb = change.inspect(config, ports)
    if _busy(ports) or generations.applied(ports.files) is None:
        context.console.line("a change began meanwhile: what was seen is of no use any more")
        return Exit.OK
    climbing.publish(ports.files, climb)
    change.note_origins(config, ports)
    context.console.line(ladder.verdict(climb))
    context.console.emit("Climb", climbing.body(climb))
    return Exit.OK


def _busy(ports: Ports) -> bool:
    """Whether a change is under way. The lock is not kept: an apply must never wait for an inspection."""
    try:
        with ports.ledger.lock("inspect"):
            return False
    except LockedError:
        return True
