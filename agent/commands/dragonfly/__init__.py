"""`nydus-agent dragonfly`: Dragonfly's own files for this node, and what is wrong with those that are there.

A file that an operator names is read, and refused whole where it is no sound one.
"""

from __future__ import annotations

import argparse
from typing import TypeVar

from agent.commands.context import Context, VerbModule, absolute, add_actions, load_verb
from agent.console import counted
from agent.dragonfly.live import LiveSettings
from agent.errors import ConfigError, Exit, FileError, Problem
from agent.ports import Files

HELP = "render Dragonfly's own files for this node, and audit those that are there"
NEEDS_ROOT = False

ACTIONS = ("render", "audit")
_LONGEST = 1 << 20
_Sound = TypeVar("_Sound")


def load(action: str) -> VerbModule:
    """The module of an action, which has the shape of a verb's."""
    return load_verb(f"dragonfly.{action}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    add_actions(parser, ACTIONS, load)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, UsageError, FenceError."""
    return load(args.action).run(args, context)


def text_of(file: str, files: Files) -> str:
    """Its text. Raises ConfigError NNA1501."""

    def unreadable(reason: str, action: str) -> ConfigError:
        problem = Problem(file, "", "", reason, action)
        return ConfigError(
            "NNA1501", f"{file} cannot be read", (problem,), try_="nydus-agent dragonfly audit FILE"
        )

    try:
        fact = files.read(absolute(file))
    except FileError as error:
        raise unreadable(error.cause or error.what, "look at the file and its rights") from error
    if fact is None:
        raise unreadable("it is not there", "look at the name")
    if len(fact.content) > _LONGEST:
        raise unreadable("it is longer than 1 MiB", "is it the right file?")
    try:
        return fact.content.decode()
    except UnicodeDecodeError as error:
        raise unreadable(f"is not UTF-8 (byte {error.start})", "save it as UTF-8") from None


def settings_of(file: str, files: Files) -> LiveSettings:
    """A dfdaemon.yaml. Raises ConfigError NNA1501 with every problem, NNA1501."""
    found = LiveSettings.of(file, text_of(file, files))
    return sound(found.problems or found, file)


def sound(found: _Sound | tuple[Problem, ...], file: str) -> _Sound:
    """What was made of a file. Raises ConfigError NNA1501 where problems are all that was."""
    if not isinstance(found, tuple):
        return found
    what = f"{file} is no sound configuration ({counted(len(found), 'problem')})"
    raise ConfigError("NNA1501", what, found, try_="correct them, then audit it again")
