"""The verb table and the command line; no logic. A verb's module is imported only when that verb runs (or
when help is asked for), so that the daemon never loads grpcio.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from agent import COMMAND, __version__, paths
from agent.commands.context import Context, Verb, sentence
from agent.console import Colour, Format
from agent.errors import Exit, UsageError

DESCRIPTION = (
    "Lazy image starts through Dragonfly on a containerd node, with a proved way back to the origin."
)

INTERNAL = ""
_VERBS = {
    "set up": "check plan apply confirm rollback repair remove generations",
    "observe": "status doctor events version",
    "operate": "route drill dragonfly completion",
    "images": "programs convert bench",
    INTERNAL: "daemon inspect recover due after-dpkg",
}
"""Help shows the verbs for people in these groups. INTERNAL verbs are run by units and maintainer scripts:
they work, and neither help nor completion nor the manual names them.
"""
VERBS = tuple(Verb(name, group) for group, names in _VERBS.items() for name in names.split())
HELP = "help"
"""The verb that is no module: `help VERB` is `VERB --help`."""
_HELP_OPTIONS = ("-h", "--help")


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError (NNA1002)."""
        raise UsageError("NNA1002", message, seen=(self.format_usage().strip(),), try_=f"{self.prog} --help")


class VerbParser(Parser):
    """Refuses what it does not know itself, so that the usage shown is that of the verb or its action."""

    def parse_known_args(  # type: ignore[override] # typeshed has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Raises UsageError."""
        read, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [option for action in (*self._actions, *common()._actions)
                     for option in action.option_strings]  # fmt: skip
            near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return read, unknown


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


def options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of every verb, which stand before or after it, and the words that are left.

    Raises UsageError.
    """
    defaults = argparse.Namespace(
        format=Format.TEXT, color=Colour.AUTO, config=paths.CONFIG_FILE, conf_d=paths.CONF_D
    )
    return common().parse_known_args(list(argv), defaults)


def public_verbs() -> tuple[Verb, ...]:
    """The verbs for people."""
    return tuple(verb for verb in VERBS if verb.group != INTERNAL)


def build_parser(verbs: Sequence[Verb]) -> Parser:
    """The parser of these verbs; imports their modules."""
    shared = cast("VerbParser", common())  # argparse wants parents of one class, for no reason
    parser = VerbParser(prog=COMMAND, description=DESCRIPTION, parents=[shared], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for verb in verbs:
        module = verb.load()
        about: dict[str, Any] = {"description": sentence(module)}
        if verb.group != INTERNAL:  # without `help` it is not listed
            about["help"] = module.HELP
        one = subparsers.add_parser(verb.name, parents=[shared], allow_abbrev=False, **about)
        module.add_arguments(one)
    return parser


def overview() -> str:
    """What `nydus-agent --help` prints: the verbs for people by group, and the options of every verb."""
    lines = [f"usage: {COMMAND} VERB [OPTION…]", "", DESCRIPTION]
    for group, verbs in itertools.groupby(public_verbs(), lambda verb: verb.group):
        lines += ["", f"{group}:", *(f"  {verb.name:12}{verb.load().HELP}" for verb in verbs)]
    shared = common().format_help().partition("options of every verb:\n")[2].rstrip()
    lines += ["", "options of every verb:", shared]
    return "\n".join((*lines, "", f"{COMMAND} help VERB tells the options of one verb."))


def run(words: Sequence[str], context: Context) -> Exit:
    """Run the verb that `words` (the command line without common options) names.

    Raises AgentError, and SystemExit after the help of a verb and --version.
    """
    if list(words[:1]) == [HELP]:
        words = [*(word for word in words[1:] if word not in _HELP_OPTIONS), "--help"]
    named = next((word for word in words if not word.startswith("-")), "")
    verb = next((verb for verb in VERBS if verb.name == named), None)
    if verb is None and named:
        raise _unknown(named)
    if verb is None and (not words or words[0] in _HELP_OPTIONS):
        print(overview(), file=context.console.out)
        return Exit.OK
    if verb is None and words[0] != "--version":
        raise UsageError("NNA1002", f"unrecognized arguments: {words[0]}", try_=f"{COMMAND} --help")
    args = build_parser([verb] if verb else []).parse_args(list(words))
    if verb is None:
        return Exit.OK
    module = verb.load()
    if module.NEEDS_ROOT:
        context.require_root(verb.name)
    return module.run(args, context)


def _unknown(named: str) -> UsageError:
    near = difflib.get_close_matches(named, [verb.name for verb in public_verbs()], n=1)
    hint = f"{COMMAND} {near[0]}" if near else f"{COMMAND} --help"
    return UsageError("NNA1002", f"there is no verb {named!r}", try_=hint)
