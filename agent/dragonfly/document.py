"""A YAML file with the reason of a line above it.

The lines are ours, because PyYAML drops comments and sorts keys; how a scalar is spelled is PyYAML's, because
YAML 1.1 takes more texts for numbers, dates and booleans than anybody remembers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

_WIDTH = 110


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a file holds: mappings, lists and scalars, and why."""

    body: Mapping[str, Any]
    head: tuple[str, ...] = ()
    """Paragraphs above everything else."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Key path (`proxy.rules[0].useTLS`) -> why it is so; of what is left out: at what it would be in."""

    def text(self) -> str:
        """The file."""
        lines = [line for paragraph in self.head for line in _comment(paragraph, "")]
        lines += _block(self.body, "", "", self.reasons)
        return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _block(value: object, path: str, indent: str, reasons: Mapping[str, str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            yield from _comment(reasons.get(at, ""), indent)
            yield from _entry(f"{indent}{key}:", item, at, f"{indent}  ", reasons)
    elif isinstance(value, Sequence):
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            yield from _comment(reasons.get(at, ""), indent)
            yield from _item(item, at, indent, reasons)


def _entry(start: str, value: object, path: str, indent: str, reasons: Mapping[str, str]) -> Iterator[str]:
    if _nests(value):
        yield start
        yield from _block(value, path, indent, reasons)
    else:
        yield f"{start} {scalar(value)}"


def _item(value: object, path: str, indent: str, reasons: Mapping[str, str]) -> Iterator[str]:
    """An item of a list; a mapping begins on the line of its dash, below the reasons of its first key."""
    if not _nests(value):
        yield f"{indent}- {scalar(value)}"
        return
    lines = list(_block(value, path, f"{indent}  ", reasons))
    first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
    for number, line in enumerate(lines):
        dash = f"{indent}- " if number == first else f"{indent}  "
        yield (indent if number < first else dash) + line[len(indent) + 2 :]


def _nests(value: object) -> bool:
    return isinstance(value, (Mapping, list, tuple)) and bool(value)


def scalar(value: object) -> str:
    """A scalar, or an empty list or mapping, on one line."""
    plain: object = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000)
    return text.removesuffix("...\n").rstrip("\n")


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """(key path, scalar) of all that is in a body, in its order."""
    if _nests(value) and isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif _nests(value) and isinstance(value, Sequence):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is other than on the page; None where a side has none."""

    key: str
    page: object
    ours: object
    reason: str


def differences(page: Mapping[str, Any], ours: YamlDocument) -> tuple[Difference, ...]:
    """All of them, each with the reason that stands nearest above it ("" where nobody gave one)."""
    theirs, mine = dict(leaves(page)), dict(leaves(ours.body))
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return tuple(
        Difference(key, theirs.get(key), mine.get(key), _reason(key, ours.reasons))
        for key in keys
        if theirs.get(key) != mine.get(key)
    )


def _reason(key: str, reasons: Mapping[str, str]) -> str:
    while key:
        if key in reasons:
            return reasons[key]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return ""
