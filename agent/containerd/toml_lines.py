"""Keys into and out of a TOML text, line by line: for files whose tables are in an order that tomlkit cannot
edit.

Installers write a table before the one that holds it, or in several places. What is made here is a proposal:
whoever asks checks that it means what was wanted (`toml_edit`), because a header inside of a long string, or
a key that is written with dots, is not recognised. Raises ValueError where no line can be found.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tomlkit

from agent.containerd.keys import KeyPath, at, dotted

_HEADER = re.compile(r"\s*\[(?!\[)(.*)\]\s*(#.*)?")
_ANY_HEADER = re.compile(r"\s*\[.*\]\s*(#.*)?")
_VALUE = r"""(true|false|"[^"\\]*"|'[^']*')"""


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of one table: its header (none above the first one), and where they end."""

    path: KeyPath
    start: int
    """Of its first line after the header."""
    end: int


def insert(text: str, wishes: Mapping[KeyPath, Any]) -> str:
    """`text` with these keys set."""
    lines = _lines(text)
    for path, value in wishes.items():
        _put(lines, path, value)
    return "".join(lines)


def remove(text: str, undo: Mapping[KeyPath, Any], before: Mapping[str, Any]) -> str:
    """`text` with these keys set to what they were, or without their lines (None); headers that were not
    there before go where nothing is left under them.
    """
    lines = _lines(text)
    for path, value in undo.items():
        if value is not None:
            _put(lines, path, value)
        else:
            block = _block(lines, path[:-1])
            number = _line_of(lines, block, path[-1]) if block is not None else None
            if number is not None:
                del lines[number]
    for path in sorted({path[:-1] for path in undo}, key=len, reverse=True):
        _drop_if_empty(lines, path, before)
    return "".join(lines)


def _lines(text: str) -> list[str]:
    return (text if text.endswith("\n") or not text else f"{text}\n").splitlines(keepends=True)


def _put(lines: list[str], path: KeyPath, value: Any) -> None:  # noqa: ANN401 - a TOML value
    written = tomlkit.item(value).as_string()
    block = _block(lines, path[:-1])
    if block is None:
        gap = ["\n"] if lines and lines[-1].strip() else []
        lines += [*gap, f"[{dotted(path[:-1])}]\n", f"{dotted(path[-1:])} = {written}\n"]
        return
    number = _line_of(lines, block, path[-1])
    if number is None:
        after, indent = _last(lines, block)
        lines.insert(after, f"{indent}{dotted(path[-1:])} = {written}\n")
        return
    match = re.search(rf"=\s*{_VALUE}", lines[number])
    if match is None:
        raise ValueError(f"{dotted(path)} has no value that could be replaced")
    lines[number] = lines[number][: match.start(1)] + written + lines[number][match.end(1) :]


def _blocks(lines: list[str]) -> list[_Block]:
    heads = [number for number, line in enumerate(lines) if _ANY_HEADER.fullmatch(line.rstrip("\n"))]
    found = [_Block((), 0, heads[0] if heads else len(lines))]
    for number, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        path = _path(lines[number])
        if path:
            found.append(_Block(path, number + 1, end))
    return found


def _path(line: str) -> KeyPath:
    match = _HEADER.fullmatch(line.rstrip("\n"))
    if match is None:
        return ()
    try:
        table = tomllib.loads(f"[{match[1]}]")
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while table:
        ((key, table),) = table.items()
        path.append(key)
    return tuple(path)


def _block(lines: list[str], path: KeyPath) -> _Block | None:
    return next((block for block in _blocks(lines) if block.path == path), None)


def _line_of(lines: list[str], block: _Block, key: str) -> int | None:
    pattern = re.compile(
        rf"""\s*(?:{re.escape(key)}|"{re.escape(key)}"|'{re.escape(key)}')\s*=.*""", re.DOTALL
    )
    return next(
        (number for number in range(block.start, block.end) if pattern.fullmatch(lines[number])), None
    )


def _last(lines: list[str], block: _Block) -> tuple[int, str]:
    """Where a new key goes, and its indent: after the last key of the block, else after its header."""
    for number in range(block.end - 1, block.start - 1, -1):
        text = lines[number].strip()
        if text and not text.startswith("#"):
            return number + 1, lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    return block.start, ""


def _drop_if_empty(lines: list[str], path: KeyPath, before: Mapping[str, Any]) -> None:
    block = _block(lines, path)
    if not path or block is None or at(before, path) is not None:
        return
    if not any(line.strip() for line in lines[block.start : block.end]):
        gap = block.start >= 2 and not lines[block.start - 2].strip()
        del lines[block.start - (2 if gap else 1) : block.end]
