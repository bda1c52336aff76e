#!/usr/bin/python3
"""Generates what the documentation says about options, keys, exit codes and errors, from the code that
defines them.

`packaging/make-docs.py --write` renews the marked blocks of docs/man and the commented example in packaging;
`--check` names what is not up to date (exit 1). The rest of the manual pages is written by hand. A block's
first line names it; that of `verbs` also names the verbs of its page.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent import cli
from agent.catalogue import CATALOGUE
from agent.config.fields import VERSION, VERSION_KEY, Setting, settings, spell, tables
from agent.errors import Exit

ROOT = Path(__file__).resolve().parents[1]
PAGES = "docs/man/*.rst"
EXAMPLE = "packaging/agent.toml.example"

_BLOCK = re.compile(
    r"(?P<begin>^\.\. begin generated: (?P<name>[a-z-]+)(?P<words>[a-z -]*)\n)"
    r"(?P<body>.*?)(?P<end>^\.\. end generated$)",
    re.M | re.S,
)

_EXAMPLE_HEAD = f"""\
# nydus-node-agent: every setting with its default, commented out. agent.toml(5) says the same at more length.
#
# Copy what you change to /etc/nydus-agent/agent.toml, or to a file of your own in /etc/nydus-agent/conf.d
# (*.toml, read by name after agent.toml: later wins, tables are merged, lists are replaced). With no file at
# all the agent works where dfdaemon is local. `nydus-agent check` shows all problems at once.

# The format of this file.
{VERSION_KEY} = {VERSION}
"""

_VALUES = {"host": '"registry.example.org:5000"', "ca": '"/etc/ssl/certs/site.pem"'}
"""Values for the example where there is no default, or an empty one would say nothing."""


def _grouped() -> dict[str, list[Setting]]:
    """Table name -> its own settings, in the model's order."""
    groups: dict[str, list[Setting]] = {name: [] for name, _ in tables()}
    for setting in settings():
        groups[setting.key.rpartition(".")[0]].append(setting)
    return groups


def _name(setting: Setting) -> str:
    return setting.key.rpartition(".")[2]


def _limits(setting: Setting) -> str:
    """What the value may be, in words."""
    if setting.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in setting.choices)
    if setting.kind is bool:
        return "true or false"
    if setting.kind is int:
        return f"a whole number from {setting.low} to {setting.high}"
    form = setting.form.value if setting.form else "text"
    return f"a list; each item: {form}" if setting.many else form


_NAMES = ("containerd", "dfdaemon", "nydusd")
"""Names that keep their small letter at the start of a sentence."""


def _sentence(text: str) -> str:
    start = text[0] if text.startswith(_NAMES) else text[0].upper()
    return start + text[1:] + ("" if text.endswith(".") else ".")


def _example() -> str:
    """The commented example."""
    lines = [_EXAMPLE_HEAD]
    meanings = dict(tables())
    for name, group in _grouped().items():
        lines += [f"# {_sentence(meanings[name])}", f"[{name}]"]
        for setting in group:
            if setting.is_tables:
                continue
            lines += [
                f"# {_sentence(setting.doc)} ({_limits(setting)})",
                f"#{_name(setting)} = {spell(setting.default)}",
            ]
        lines.append("")
        for setting in group:
            lines += list(_example_tables(setting)) if setting.is_tables else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _example_tables(setting: Setting) -> Iterator[str]:
    yield f"# {_sentence(setting.doc)}"
    yield f"#[[{setting.key}]]"
    for field in settings(setting.kind):
        value = _VALUES.get(field.key, spell(field.default))
        yield f"# {_sentence(field.doc)} ({_limits(field)})"
        yield f"#{field.key} = {value}"
    yield ""


def _keys() -> str:
    """agent.toml(5): one section per table, a definition per key."""
    meanings = dict(tables())
    blocks: list[str] = []
    for name, group in _grouped().items():
        title = f"[{name}]"
        blocks += [f"{title}\n{'-' * len(title)}", _sentence(meanings[name])]
        for setting in group:
            if setting.is_tables:
                blocks.append(f"**[[{setting.key}]]**\n    {_escaped(_sentence(setting.doc))}")
                blocks += [_indented(_key(field)) for field in settings(setting.kind)]
            else:
                blocks.append(_key(setting))
    return "\n\n".join(blocks)


def _key(setting: Setting) -> str:
    default = "must be given" if setting.default is MISSING else f"default {_literal(spell(setting.default))}"
    about = f"{_escaped(_sentence(setting.doc))} Value: {_escaped(_limits(setting))}."
    return f"**{_name(setting)}** ({default})\n    {about}"


def _literal(text: str) -> str:
    return f"``{text}``"


def _escaped(text: str) -> str:
    """Characters that mean something to reST, and addresses that it would make links of."""
    return re.sub(r"([\\*`|_]|https?://)", r"\\\1", text)


def _indented(text: str, by: int = 4) -> str:
    return "\n".join(f"{' ' * by}{line}" if line else "" for line in text.split("\n"))


def _exits() -> str:
    rows = [f"**{int(code)}**\n    {_sentence(code.meaning)}" for code in Exit]
    return "\n\n".join(rows)


def _errors() -> str:
    rows = []
    for code in sorted(CATALOGUE):
        entry = CATALOGUE[code]
        action = _escaped(entry.action)
        rows.append(
            f"**{code}** {_escaped(entry.title)} (exit {int(entry.exit)})\n    {_escaped(entry.meaning)} "
            f"{action}"
        )
    return "\n\n".join(rows)


def _option(action: argparse.Action) -> str:
    """One entry of a reST option list, or a definition for a positional argument."""
    about = _escaped(_sentence((action.help or "") % vars(action)))  # as argparse fills it in
    if not action.option_strings:
        name = action.metavar if isinstance(action.metavar, str) else action.dest
        given = f"{name}: {'|'.join(map(str, action.choices))}" if action.choices else name
        return f"*{_escaped(given)}*\n    {about}"
    names = list(action.option_strings)
    if action.nargs != 0:
        value = (
            "|".join(map(str, action.choices))
            if action.choices
            else str(action.metavar or action.dest.upper())
        )
        form = f"[=<{value}>]" if action.nargs == "?" else f"=<{value}>"
        names = [f"{name}{form}" if name.startswith("--") else f"{name} <{value}>" for name in names]
    return f"{', '.join(names)}\n    {about}"


def _own(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """A parser's arguments without --help and what every verb takes."""
    common = {option for action in cli.common()._actions for option in action.option_strings}
    for action in parser._actions:  # argparse has no public list of them; shtab reads the same
        is_common = any(option in common or option == "--help" for option in action.option_strings)
        is_hidden = action.help == argparse.SUPPRESS
        if not (is_common or is_hidden or isinstance(action, argparse._SubParsersAction)):
            yield action


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """(name, help, parser) of each verb or action below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((name, helps.get(name, ""), sub) for name, sub in action.choices.items())


def _verbs(*names: str) -> str:
    """The page of a group of verbs: each with its arguments. Raises KeyError for a name that is no verb."""
    blocks: list[str] = []
    known = {verb.name: verb for verb in cli.public_verbs()}
    for name, about, parser in _subparsers(cli.build_parser([known[name] for name in names])):
        title = f"nydus-agent {name}"
        blocks += [f"{title}\n{'-' * len(title)}", _escaped(_sentence(about)), *map(_option, _own(parser))]
        for action, what, sub in _subparsers(parser):
            blocks.append(f"**{title} {action}**\n    {_escaped(_sentence(what))}")
            blocks += [_indented(_option(argument)) for argument in _own(sub)]
    return "\n\n".join(blocks)


def _common() -> str:
    return "\n\n".join(_option(action) for action in cli.common()._actions)


BLOCKS: dict[str, Callable[..., str]] = {
    "verbs": _verbs,
    "options": _common,
    "exit-codes": _exits,
    "errors": _errors,
    "keys": _keys,
}


def renewed(text: str) -> str:
    """A page with its marked blocks generated anew."""

    def block(match: re.Match[str]) -> str:
        return f"{match['begin']}\n{BLOCKS[match['name']](*match['words'].split())}\n\n{match['end']}"

    return _BLOCK.sub(block, text)


def outdated(root: Path) -> dict[Path, str]:
    """Files that are not what the code says, with what they should hold."""
    wanted = {page: renewed(page.read_text()) for page in sorted(root.glob(PAGES))}
    wanted[root / EXAMPLE] = _example()
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}


def main() -> int:
    """--write or --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true", help="renew the files")
    choice.add_argument("--check", action="store_true", help="name the files that are not up to date")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the files lie")
    args = parser.parse_args()
    stale = outdated(args.root)
    for path, text in stale.items():
        if args.write:
            path.write_text(text)
        print(f"{'renewed' if args.write else 'not up to date'}: {path}", file=sys.stderr)
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
