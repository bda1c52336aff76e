"""Keys into and out of a TOML text, with every other line as it was.

tomlkit proposes the text (`…_by_tree`), or our own look at its lines where it cannot (`…_by_lines`): it
cannot edit tables in some orders. Installers write a table before the one that holds it, or in several
places, and Debian 12 has an old tomlkit. What is proposed is checked: it must mean the input plus (or minus)
the keys, and every line of the input must still be there, but for those whose value changed. Anything else is
an error, never a result.
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from agent.containerd.view import KeyPath, at, dotted, take

Value: TypeAlias = str | bool | Mapping[str, Any] | Sequence[Any]

FAILURES = (ValueError, TypeError, KeyError, AttributeError)
"""What `insert` and `remove` raise where the text cannot be had (AttributeError: tomlkit's for tables out of
order).
"""


def insert(text: str, wishes: Mapping[KeyPath, Value]) -> str:
    """`text` with these keys set. Raises ValueError where the result would be more or less than that, or
    where lines of others would change.
    """
    before = tomllib.loads(text)
    wanted = copy.deepcopy(before)
    for path, value in wishes.items():
        _set(wanted, path, value)
    changed = sum(at(before, path) is not None for path in wishes)

    def right(result: str) -> None:
        _need_meaning(result, wanted)
        _need_lines(text, result, changed)

    return _first(right, lambda: insert_by_tree(text, wishes), lambda: insert_by_lines(text, wishes))


def remove(text: str, undo: Mapping[KeyPath, Value | None], before: Mapping[str, Any]) -> str:
    """`text` with these keys set to what they were, or taken out where that is None.

    Tables that are empty then go too, but for those that were there `before`.

    Raises ValueError where the result would be more or less than that.
    """
    wanted = tomllib.loads(text)
    for path, value in undo.items():
        if value is None:
            take(wanted, path, before)
        else:
            _set(wanted, path, value)

    def right(result: str) -> None:
        _need_meaning(result, wanted)
        _need_lines(result, text, sum(value is not None for value in undo.values()))

    return _first(
        right, lambda: remove_by_tree(text, undo, before), lambda: remove_by_lines(text, undo, before)
    )


def _first(right: Callable[[str], None], *ways: Callable[[], str]) -> str:
    """The first proposal that is right.

    Raises what is wrong with the first one, as a ValueError, where none is.
    """
    wrong: list[Exception] = []
    for way in ways:
        try:
            proposed = way()
            right(proposed)
        except FAILURES as error:
            wrong.append(error)
        else:
            return proposed
    raise ValueError(str(wrong[0]))


def _need_meaning(text: str, wanted: Mapping[str, Any]) -> None:
    if tomllib.loads(text) != wanted:
        raise ValueError("the result would mean something else")


def add_to_list(text: str, path: KeyPath, value: str) -> str:
    """`text` with one more entry at the end of a list, which is made where it is not there.

    Raises ValueError.
    """
    there = at(tomllib.loads(text), path)
    if there is None:
        return insert(text, {path: [value]})
    if not isinstance(there, list):
        raise ValueError(f"{dotted(path)} is no list")
    return _relisted(text, path, [*there, value], lambda array: array.append(value))


def take_from_list(text: str, path: KeyPath, value: str, before: Mapping[str, Any]) -> str:
    """`text` without an entry of a list; one that is empty then and was not there `before` goes.

    Raises ValueError.
    """
    there = at(tomllib.loads(text), path)
    if not isinstance(there, list) or value not in there:
        return text
    if there == [value] and at(before, path) is None:
        return remove(text, {path: None}, before)
    return _relisted(text, path, [one for one in there if one != value], lambda array: array.remove(value))


def _relisted(text: str, path: KeyPath, values: list[Any], change: Callable[[Any], None]) -> str:
    """A changed list: each of its lines may differ, and no other."""
    wanted = tomllib.loads(text)
    _set(wanted, path, values)
    result = _changed(text, lambda proposed: change(at(proposed, path)))
    _need_meaning(result, wanted)
    _need_lines(text, result, 1)
    return result


def _set(document: dict[str, Any], path: KeyPath, value: Value) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ValueError(f"{dotted(path)} is inside of something that is no table")
    document[path[-1]] = value


def _need_lines(fewer: str, more: str, changed: int) -> None:
    """Every line of `fewer` is in `more`, in order, but for `changed` of them. Raises ValueError."""
    # Without their ends: a last line may get the newline that it lacked.
    left, right = fewer.splitlines(), more.splitlines()
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    kept = sum(block.size for block in matcher.get_matching_blocks())
    if len(left) - kept > changed:
        raise ValueError("lines of others would change")


# By tomlkit, which keeps what it does not change


def insert_by_tree(text: str, wishes: Mapping[KeyPath, Any]) -> str:
    """`text` with these keys set."""
    return _changed(text, lambda proposed: _set_all(proposed, wishes))


def remove_by_tree(text: str, undo: Mapping[KeyPath, Any], before: Mapping[str, Any]) -> str:
    """`text` with these keys set to what they were, or taken out where that is None."""

    def undone(proposed: Any) -> None:  # noqa: ANN401 - tomlkit's tables
        for path, value in undo.items():
            if value is None:
                take(proposed, path, before)
            else:
                _propose(proposed, path, value)

    result = _changed(text, undone)
    if result.endswith("\n\n") and not text.endswith("\n\n"):
        result = result.rstrip("\n") + "\n"  # a blank line stood between others' last table and ours
    return result


def _changed(text: str, change: Callable[[Any], None]) -> str:
    try:
        proposed = _tree(text)
        change(proposed)
        return proposed.as_string()
    except TOMLKitError as error:  # some of them are nothing but tomlkit's own
        raise ValueError(str(error)) from error


def _set_all(proposed: Any, wishes: Mapping[KeyPath, Any]) -> None:  # noqa: ANN401 - tomlkit's tables
    for path, value in wishes.items():
        _propose(proposed, path, value)


def _tree(text: str) -> tomlkit.TOMLDocument:
    proposed = tomlkit.parse(text)
    if proposed.as_string() != text:
        raise ValueError("it does not come out of the parser as it went in")
    return proposed


def _propose(document: Any, path: KeyPath, value: Any) -> None:  # noqa: ANN401 - tomlkit's tables
    """Set a key."""
    for depth, key in enumerate(path[:-1]):
        if key not in document:
            # Only the last table gets a header of its own: a header that stands already must not come twice.
            indent = _indent_below(document)
            document.append(key, tomlkit.table(is_super_table=depth < len(path) - 2))
            if indent:
                document[key].indent(len(indent) + 2)  # its keys; a header takes its own indent
                document[key].trivia.indent = indent
        document = document[key]
    document[path[-1]] = value


def _indent_below(table: Any) -> str:  # noqa: ANN401 - tomlkit's tables
    """How the headers of tables inside of this one are indented."""
    inner = (one for one in table.values() if isinstance(one, Table))
    return next((one.trivia.indent for one in inner if not one.is_super_table()), "")


# Line by line. A header inside of a long string, or a key that is written with dots, is not recognised: the
# check above refuses what comes of that.

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


def insert_by_lines(text: str, wishes: Mapping[KeyPath, Any]) -> str:
    """`text` with these keys set."""
    lines = _lines(text)
    for path, value in wishes.items():
        _put(lines, path, value)
    return "".join(lines)


def remove_by_lines(text: str, undo: Mapping[KeyPath, Any], before: Mapping[str, Any]) -> str:
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
