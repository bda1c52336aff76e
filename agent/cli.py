"""The verb table and the command line; no logic. A verb's module is imported only when that verb runs (or when help
is asked for), so that `status` never pays for grpcio.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from agent import COMMAND, paths
from agent.commands.context import Context, Verb
from agent.console import Colour, Format
from agent.dataclass import dataclass
from agent.errors import Exit, UsageError

if TYPE_CHECKING:
    import argparse

VERBS = (
    Verb("check"),
    Verb("plan"),
    Verb("apply"),
    Verb("confirm"),
    Verb("revert"),
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
    Verb("daemon", internal=True, plain=True),
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


def options(argv: Sequence[str]) -> Options:
    """The options of every verb. Raises UsageError."""
    if not any(word.startswith("-") for word in argv):
        return Options(words=tuple(argv))
    from agent.command_line import common

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


def run(words: Sequence[str], context: Context) -> Exit:
    """Run the verb that `words` (the command line without common options) names.

    Raises AgentError, and SystemExit after --help and --version.
    """
    verb = next((verb for verb in VERBS if verb.name == _named(words)), None)
    args = _parsed(words, verb)
    if verb is None:
        raise UsageError("NNA1002", "a verb is missing", try_=f"{COMMAND} --help")
    module = verb.load()
    if module.NEEDS_ROOT:
        context.require_root(verb.name)
    return module.run(args, context)


def _named(words: Sequence[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")


def _parsed(words: Sequence[str], verb: Verb | None) -> argparse.Namespace:
    if verb is not None and verb.plain and len(words) == 1:
        return cast("argparse.Namespace", SimpleNamespace())
    from agent.command_line import build_parser

    if verb is None and (named := _named(words)):
        raise _unknown(named)
    return build_parser([verb] if verb else public_verbs(), tuple(words)).parse_args(list(words))


def _unknown(named: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(named, [verb.name for verb in public_verbs()], n=1)
    hint = f"{COMMAND} {near[0]}" if near else f"{COMMAND} --help"
    return UsageError("NNA1002", f"there is no verb {named!r}", try_=hint)
