"""`nydus-agent dragonfly`:

Dragonfly's own files for this node, and what is wrong with those that are there.
"""

from __future__ import annotations

import argparse

from agent.commands.context import Context, VerbModule, add_actions, load_verb
from agent.errors import Exit

HELP = "render Dragonfly's own files for this node, and audit those that are there"
NEEDS_ROOT = False

ACTIONS = ("render", "audit")


def load(action: str) -> VerbModule:
    """The module of an action, which has the shape of a verb's."""
    return load_verb(f"dragonfly_{action}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    add_actions(parser, ACTIONS, load)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, UsageError, FenceError."""
    return load(args.action).run(args, context)
