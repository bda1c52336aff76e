"""Verbs that have actions (`dragonfly render`); an action's module has the shape of a verb's."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from agent.commands.context import VerbModule, sentence


def add(parser: argparse.ArgumentParser, names: Sequence[str], load: Callable[[str], VerbModule]) -> None:
    """The actions of a verb.

    Where the command line begins with one of them (`words`, see `command_line.Parser`), that is the only one: loading
    the others would be a large part of its start, and what it says of itself is the same.
    """
    begun = tuple(getattr(parser, "words", ()))[:1]
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name in begun if begun and begun[0] in names else names:
        module = load(name)
        ours = actions.add_parser(name, help=module.HELP, description=sentence(module), allow_abbrev=False)
        module.add_arguments(ours)
