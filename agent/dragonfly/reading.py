"""Reads YAML of others: as Dragonfly's own readers do where YAML 1.1 and 1.2 differ, with everything that is
wrong at once, by key path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.errors import Problem

DEPTH = 60
"""Nobody's configuration nests deeper; a file that does is meant to exhaust its reader."""
NODES = 100_000

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_KNOWN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)


@dataclass
class Reader:
    """One file; `problems` fills as it is read."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    _left: int = NODES

    def read(self, text: str) -> Mapping[str, Any]:
        """The file's top mapping; an empty file is an empty one."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            self._wrong("", "", *_spoken(error))
            return {}
        except RecursionError:
            self._wrong("", "", "nests too deep", "is it the right file?")
            return {}
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._wrong("", "", "is not a mapping of keys to values", "is it the right file?")
            return {}
        found = self._value(node, "", 0)
        return found if isinstance(found, dict) else {}

    def _value(self, node: yaml.Node, path: str, depth: int) -> Any:  # noqa: ANN401 - what YAML may hold
        self._left -= 1
        if depth > DEPTH or self._left < 0:
            if self._left > -NODES:
                self._wrong(path, "", "the file holds too much", "is it the right file?")
                self._left = -NODES
            return None
        if node.tag not in _KNOWN_TAGS:
            self._wrong(path, "", f"has the tag {node.tag}, which Dragonfly does not know", "drop the tag")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            at = f"{path}.{key}" if path else key
            line = f"line {key_node.start_mark.line + 1}"
            if key in found:
                self._wrong(at, "", f"stands twice ({line})", "keep one of them")
            elif key == "<<" or not isinstance(key_node, yaml.ScalarNode):
                self._wrong(
                    at, "", f"is a key that Dragonfly's readers do not take ({line})", "write plain keys"
                )
            else:
                found[key] = self._value(value_node, at, depth + 1)
        return found

    def _wrong(self, key: str, value: str, reason: str, action: str) -> None:
        self.problems.append(Problem(self.file, key, value, reason, action))


def _scalar(node: yaml.Node) -> object:
    """By YAML 1.2: "yes" and "1:30" are texts there, and 010 is ten."""
    text = str(node.value)
    if getattr(node, "style", None) in ("'", '"', "|", ">"):
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text) and len(text) < 40:
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and len(text) < 40 else text


def _spoken(error: yaml.YAMLError) -> tuple[str, str]:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"is not YAML: {place}{what}", "correct it there"


def shown(value: object) -> str:
    """A value for a message, on one line, shortened."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def flat(tree: Mapping[str, Any], known: frozenset[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key path, value) down to the known keys, and to what is no mapping."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in known:
            yield from flat(value, known, f"{path}.")
        else:
            yield path, value
