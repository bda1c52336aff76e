"""The command line as argparse sees it. Apart, because the daemon's has nothing to parse, and argparse would cost it
0.4 MB of memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from agent import COMMAND, __version__, paths
from agent.commands.context import Verb, sentence
from agent.console import Colour, Format
from agent.errors import UsageError

DESCRIPTION = "Lazy image starts through Dragonfly on a containerd node, with a proved way back to the origin."


def _unmeasured(prog: str) -> argparse.HelpFormatter:
    """Enough to check an argument with. How wide the terminal is, argparse asks shutil, which loads three compressors
    (2 ms): that can wait for a help that is shown.
    """
    return argparse.HelpFormatter(prog, width=80)


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of printing and exiting."""

    words: Sequence[str] = ()
    """Of a verb's parser: what stands behind the verb on the command line, where that is known."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - as argparse's
        super().__init__(**options, formatter_class=_unmeasured)

    def format_help(self) -> str:
        """As wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_help()

    def format_usage(self) -> str:
        """As wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_usage()

    def error(self, message: str) -> NoReturn:
        """Raises UsageError (NNA1002)."""
        raise UsageError("NNA1002", message, seen=(self.format_usage().strip(),), try_=f"{self.prog} --help")


def common() -> Parser:
    """The parser of what every verb takes."""
    # SUPPRESS: with a default, the verb's parser would undo what was given before the verb.
    parser = Parser(prog=COMMAND, add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("options of every verb")
    group.add_argument("--format", choices=[item.value for item in Format], help="form of the answer (default text)")
    group.add_argument("--color", choices=[item.value for item in Colour], help="use colour (default auto)")
    group.add_argument("--config", metavar="FILE", help=f"the base file (default {paths.CONFIG_FILE})")
    group.add_argument("--conf-d", metavar="DIRECTORY", help=f"the drop-ins (default {paths.CONF_D})")
    return parser


def common_options() -> tuple[argparse.Action, ...]:
    """What every verb takes, for the documentation."""
    return tuple(common()._actions)


def build_parser(verbs: Sequence[Verb], words: Sequence[str] = ()) -> Parser:
    """The parser of these verbs; imports their modules. It may be one for these words only, the verb first."""
    shared = common()
    parser = Parser(prog=COMMAND, description=DESCRIPTION, parents=[shared], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for verb in verbs:
        module = verb.load()
        about = sentence(module)
        if verb.internal:  # without `help` it is not listed
            verb_parser = subparsers.add_parser(verb.name, parents=[shared], description=about, allow_abbrev=False)
        else:
            verb_parser = subparsers.add_parser(
                verb.name, parents=[shared], description=about, allow_abbrev=False, help=module.HELP
            )
        verb_parser.words = words[1:] if words[:1] == (verb.name,) else ()
        module.add_arguments(verb_parser)
    return parser
