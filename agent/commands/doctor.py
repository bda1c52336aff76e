"""`nydus-agent doctor`: climb the ladder of proof now, and say what is wrong and what to do."""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import change, generations
from agent.apply.climb import body
from agent.commands import ladder
from agent.commands.context import Context
from agent.errors import Exit

HELP = "climb the ladder of proof now: each rung, and what to do about those that fail"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001 - one signature for all verbs
    """Exit code 0: all that can be proved is; 3: a rung failed or something drifted; 4: something could not be told.

    Raises ConfigError.
    """
    config = context.load_config().config
    ports = wire.root_ports(config)
    if generations.applied(ports.files) is None:
        context.console.warn("nothing was applied on this node yet: nydus-agent plan")
    climb = change.inspect(config, ports)
    ladder.show(context.console, climb)
    context.console.line(ladder.verdict(climb))
    context.console.emit("Climb", body(climb))
    return climb.exit
