"""Verbs that have actions (`artifacts install`); an action's module has the shape of a verb's."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from agent.commands.context import VerbModule, sentence


def add(parser: argparse.ArgumentParser, names: Sequence[str], load: Callable[[str], VerbModule]) -> None:
    """The actions of a verb."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name in names:
        module = load(name)
        ours = actions.add_parser(name, help=module.HELP, description=sentence(module), allow_abbrev=False)
        module.add_arguments(ours)
