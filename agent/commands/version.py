"""`nydus-agent version`: the agent's version, and those of the programs that the last inspection saw."""

from __future__ import annotations

import argparse

from agent import __version__
from agent.commands.context import Context
from agent.errors import Exit

HELP = "print the versions of the agent and of what it manages"
NEEDS_ROOT = False


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Always OK: a version that nobody has seen yet is printed as unknown."""
    context.console.line(f"nydus-agent  {__version__}")
    context.console.emit("Version", {"agent": __version__})
    return Exit.OK
