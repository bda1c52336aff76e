"""The verb table and the command line; no logic. A verb's module is imported only when that verb runs (or
when help is asked for), so that the daemon never loads grpcio.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from agent import COMMAND, __version__, paths
from agent.commands.context import Context, Verb, sentence
from agent.console import Colour, Format
from agent.errors import Exit, UsageError

DESCRIPTION = (
    "Lazy image starts through Dragonfly on a containerd node, with a proved way back to the origin."
)

VERBS = (
    Verb("check"),
    Verb("plan"),
    Verb("apply"),
    Verb("confirm"),
    Verb("rollback"),
    Verb("history"),
    Verb("status"),
    Verb("why"),
    Verb("doctor"),
    Verb("repair"),
    Verb("route"),
    Verb("drill"),
    Verb("bench"),
    Verb("programs"),
    Verb("convert"),
    Verb("dragonfly"),
    Verb("version"),
    Verb("daemon", internal=True),
    Verb("inspect", internal=True),
    Verb("recover", internal=True),
    Verb("remove", internal=True),
    Verb("due", internal=True),
    Verb("after-dpkg", internal=True),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Options that every verb takes, before or after the verb."""

    format: Format = Format.TEXT
    color: Colour = Colour.AUTO
    config: str = paths.CONFIG_FILE
    conf_d: str = paths.CONF_D
    words: tuple[str, ...] = ()
    """The rest of the command line, options of the verb too."""


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError (NNA1002)."""
        raise UsageError("NNA1002", message, seen=(self.format_usage().strip(),), try_=f"{self.prog} --help")


def common() -> Parser:
    """The parser of what every verb takes."""
    # SUPPRESS: with a default, the verb's parser would undo what was given before the verb.
    parser = Parser(prog=COMMAND, add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("options of every verb")
    group.add_argument(
        "--format", choices=[item.value for item in Format], help="form of the answer (default text)"
    )
    group.add_argument("--color", choices=[item.value for item in Colour], help="use colour (default auto)")
    group.add_argument("--config", metavar="FILE", help=f"the base file (default {paths.CONFIG_FILE})")
    group.add_argument("--conf-d", metavar="DIRECTORY", help=f"the drop-ins (default {paths.CONF_D})")
    return parser


def options(argv: Sequence[str]) -> Options:
    """The options of every verb. Raises UsageError."""
    known, words = common().parse_known_args(list(argv))
    given = vars(known)
    return Options(
        Format(given.get("format", Format.TEXT)),
        Colour(given.get("color", Colour.AUTO)),
        given.get("config", paths.CONFIG_FILE),
        given.get("conf_d", paths.CONF_D),
        tuple(words),
    )


def public_verbs() -> tuple[Verb, ...]:
    """The verbs for people."""
    return tuple(verb for verb in VERBS if not verb.internal)


def build_parser(verbs: Sequence[Verb]) -> Parser:
    """The parser of these verbs; imports their modules."""
    shared = common()
    parser = Parser(prog=COMMAND, description=DESCRIPTION, parents=[shared], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for verb in verbs:
        module = verb.load()
        about = sentence(module)
        if verb.internal:  # without `help` it is not listed
            verb_parser = subparsers.add_parser(
                verb.name, parents=[shared], description=about, allow_abbrev=False
            )
        else:
            verb_parser = subparsers.add_parser(
                verb.name, parents=[shared], description=about, allow_abbrev=False, help=module.HELP
            )
        module.add_arguments(verb_parser)
    return parser


def run(words: Sequence[str], context: Context) -> Exit:
    """Run the verb that `words` (the command line without common options) names.

    Raises AgentError, and SystemExit after --help and --version.
    """
    named = next((word for word in words if not word.startswith("-")), "")
    verb = next((verb for verb in VERBS if verb.name == named), None)
    if verb is None and named:
        raise _unknown(named)
    args = build_parser([verb] if verb else public_verbs()).parse_args(list(words))
    if verb is None:
        raise UsageError("NNA1002", "a verb is missing", try_=f"{COMMAND} --help")
    module = verb.load()
    if module.NEEDS_ROOT:
        context.require_root(verb.name)
    return module.run(args, context)


def _unknown(named: str) -> UsageError:
    near = difflib.get_close_matches(named, [verb.name for verb in public_verbs()], n=1)
    hint = f"{COMMAND} {near[0]}" if near else f"{COMMAND} --help"
    return UsageError("NNA1002", f"there is no verb {named!r}", try_=hint)
