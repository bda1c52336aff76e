"""YAML as Dragonfly's readers take it (1.2), and our own files with the reason of a line above it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.errors import Problem

NODES = 100_000
"""Nobody's configuration holds more; aliases of aliases are meant to exhaust a reader."""
_WIDTH = 110


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: "yes", "1:30" and dates are texts, and "<<" is a key like any other."""

    def construct_mapping(  # PyYAML's own parameters
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002
    ) -> dict[Any, Any]:
        """Raises ConstructorError where a key stands twice: dfdaemon refuses such a file."""
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                problem = f"{key.value} stands twice; keep one of them"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            names.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep=deep)


_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,18})", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _RESOLVERS:
    for _character in _first:
        _entry = (f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"))
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append(_entry)


def read(file: str, text: str, problems: list[Problem]) -> Mapping[str, Any]:
    """The top mapping of a file, an empty one of an empty file; what is wrong with it goes to `problems`."""
    tree: object = None
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        wrong = "" if tree is None or isinstance(tree, dict) else "is not a mapping of keys to values"
        wrong = wrong or ("holds too much" if _holds_too_much(tree) else "")
    except yaml.YAMLError as error:
        wrong = _where(error)
    except RecursionError:
        wrong = "nests too deep"
    if wrong:
        problems.append(Problem(file, "", "", wrong, "correct it, or name another file"))
    return tree if isinstance(tree, dict) and not wrong else {}


def _where(error: yaml.YAMLError) -> str:
    """What is wrong and where. PyYAML's own text quotes the line, which may hold a password."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"is not YAML: {place}{getattr(error, 'problem', None) or 'it cannot be read'}"


def _holds_too_much(tree: object) -> bool:
    """Counts as aliases are written out: a tree of them may be endless."""
    left, values = NODES, [tree]
    while values and left:
        left -= 1
        value = values.pop()
        if isinstance(value, (dict, list)):
            values += value.values() if isinstance(value, dict) else value
    return bool(values)


def shown(value: object) -> str:
    """A value for a message, on one line, shortened."""
    if value is None:
        return "null"
    text = " ".join((str(value).lower() if isinstance(value, bool) else str(value)).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def flat(tree: Mapping[str, Any], leaves: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key path, value) down to these leaves, and to what is no mapping."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in leaves:
            yield from flat(value, leaves, f"{path}.")
        else:
            yield path, value


class _Dumper(yaml.SafeDumper):
    """No anchors, and lists indented below their key."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's
        return True

    def increase_indent(
        self,
        flow: bool = False,  # noqa: FBT001,FBT002
        indentless: bool = False,  # noqa: ARG002,FBT001,FBT002
    ) -> None:
        super().increase_indent(flow, indentless=False)


@dataclass(frozen=True, slots=True)
class Explained:
    """A value of a file and why it is so."""

    value: object
    why: str


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a file holds: mappings, lists and scalars, and why."""

    body: Mapping[str, Any]
    head: tuple[str, ...] = ()
    """Paragraphs above everything else."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Key path (`proxy.rules[0].useTLS`) -> why it is so; of what is left out: at what it would be in."""

    @staticmethod
    def of(tree: Mapping[str, object], head: tuple[str, ...]) -> YamlDocument:
        """Of a tree whose values may be explained. What is None is left out, and a table of nothing else."""
        reasons: dict[str, str] = {}
        return YamlDocument(_split(tree, "", reasons), head, reasons)

    def text(self) -> str:
        """The file. PyYAML spells it and tells where each key stands; it writes no comments."""
        spelled = yaml.dump(self.body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
        lines = [[line] for line in spelled.split("\n")]
        for path, mark in _places(yaml.compose(spelled)):
            lines[mark.line][:0] = _comment(self.reasons.get(path, ""), " " * mark.column)
        head = [line for paragraph in self.head for line in _comment(paragraph, "")]
        return "\n".join([*head, *(line for each in lines for line in each)])


def _split(value: object, path: str, reasons: dict[str, str]) -> Any:  # noqa: ANN401 - what YAML may hold
    """The value alone; the reasons go to `reasons` by key path."""
    if isinstance(value, Explained):
        made = _split(value.value, path, reasons)
        if made is not None:
            reasons[path] = value.why
        return made
    if isinstance(value, Mapping):
        items = {key: _split(item, f"{path}.{key}" if path else key, reasons) for key, item in value.items()}
        held = {key: item for key, item in items.items() if item is not None}
        return held if held or not value else None
    if isinstance(value, (list, tuple)):
        return [_split(item, f"{path}[{index}]", reasons) for index, item in enumerate(value)]
    return value


def _places(node: yaml.Node | None, path: str = "") -> Iterator[tuple[str, yaml.Mark]]:
    """(key path, where it stands); what is within a key comes before it, so its comment ends up below."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = f"{path}.{key.value}" if path else key.value
            yield from _places(value, at)
            yield at, key.start_mark
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _places(item, f"{path}[{index}]")
            yield f"{path}[{index}]", item.start_mark


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is other than on the page; None where a side has none."""

    key: str
    page: object
    ours: object
    reason: str


def differences(page: Mapping[str, Any], ours: YamlDocument) -> tuple[Difference, ...]:
    """All of them, each with the reason that stands nearest above it ("" where nobody gave one)."""
    theirs, mine = dict(_leaves(page)), dict(_leaves(ours.body))
    return tuple(
        Difference(key, theirs.get(key), mine.get(key), _reason(key, ours.reasons))
        for key in dict.fromkeys([*mine, *theirs])
        if theirs.get(key) != mine.get(key)
    )


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """(key path, scalar) of all that is in a body, in its order."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, Sequence) and value and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _reason(key: str, reasons: Mapping[str, str]) -> str:
    while key and key not in reasons:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return reasons.get(key, "")
