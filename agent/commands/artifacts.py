"""`nydus-agent artifacts`: upstream's programs on this node, pinned by a lock, verified, and kept by version."""

from __future__ import annotations

import argparse

from agent.commands.context import Context, VerbModule, add_actions, load_verb
from agent.errors import Exit

HELP = "install, list, verify and go back between versions of the nydus programs"
NEEDS_ROOT = False

ACTIONS = ("install", "list", "which", "verify", "rollback", "prune", "lock", "bundle")


def load(action: str) -> VerbModule:
    """The module of an action, which has the shape of a verb's."""
    return load_verb(f"artifacts_{action}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    add_actions(parser, ACTIONS, load)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ArtifactError, ConfigError, UsageError."""
    module = load(args.action)
    if module.NEEDS_ROOT:
        context.require_root(f"artifacts {args.action}")
    return module.run(args, context)
