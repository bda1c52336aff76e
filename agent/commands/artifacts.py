"""`nydus-agent artifacts`: upstream's programs on this node, pinned by a lock, verified, and kept by version."""

from __future__ import annotations

import argparse
import importlib
from typing import cast

from agent.commands.context import Context, VerbModule
from agent.errors import Exit

HELP = "install, list, verify and go back between versions of the nydus programs"
NEEDS_ROOT = False

ACTIONS = ("install", "list", "which", "verify", "rollback", "prune", "lock", "bundle")


def load(action: str) -> VerbModule:
    """The module of an action, which has the shape of a verb's."""
    return cast("VerbModule", importlib.import_module(f"agent.commands.artifacts_{action}"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action in ACTIONS:
        module = load(action)
        about = module.HELP[0].upper() + module.HELP[1:] + "."
        module.add_arguments(actions.add_parser(action, help=module.HELP, description=about, allow_abbrev=False))


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ArtifactError, ConfigError, UsageError."""
    module = load(args.action)
    if module.NEEDS_ROOT:
        context.require_root(f"artifacts {args.action}")
    return module.run(args, context)
