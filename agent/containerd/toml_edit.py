"""Keys into and out of a TOML text, with every other line as it was.

tomlkit makes the text, and it is checked: it must mean the input plus (or minus) the keys, and every line of
the input must still be there, but for those whose value changed. Anything else is an error, never a result.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tomlkit
from tomlkit.container import OutOfOrderTableProxy
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from agent.containerd.view import KeyPath, at, dotted, take

Value: TypeAlias = str | bool | Mapping[str, Any] | Sequence[Any]


def insert(text: str, wishes: Mapping[KeyPath, Value], *, exact: bool = True) -> str:
    """`text` with these keys set. Raises ValueError where the result would be more or less than that, or
    (`exact`) where lines of others would change.
    """
    before = tomllib.loads(text)
    wanted = copy.deepcopy(before)
    for path, value in wishes.items():
        _set(wanted, path, value)

    def change(proposed: Any) -> None:  # noqa: ANN401 - tomlkit's tables
        for path, value in wishes.items():
            _propose(proposed, path, value)

    result = _edited(text, wanted, change)
    if exact:
        _need_lines(text, result, sum(at(before, path) is not None for path in wishes))
    return result


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

    def change(proposed: Any) -> None:  # noqa: ANN401 - tomlkit's tables
        for path, value in undo.items():
            if value is None:
                take(proposed, path, before)
            else:
                _propose(proposed, path, value)

    result = _edited(text, wanted, change)
    if result.endswith("\n\n") and not text.endswith("\n\n"):
        result = result.rstrip("\n") + "\n"  # a blank line stood between others' last table and ours
    _need_lines(result, text, sum(value is not None for value in undo.values()))
    return result


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


def replace_list(text: str, path: KeyPath, values: Sequence[str]) -> str:
    """`text` with other entries in a list that is there. Raises ValueError. For texts that nobody keeps."""
    return insert(text, {path: list(values)}, exact=False)


def _relisted(text: str, path: KeyPath, values: list[Any], change: Callable[[Any], None]) -> str:
    """A changed list: each of its lines may differ, and no other."""
    wanted = tomllib.loads(text)
    _set(wanted, path, values)
    result = _edited(text, wanted, lambda proposed: change(at(proposed, path)))
    _need_lines(text, result, 1)
    return result


def _set(document: dict[str, Any], path: KeyPath, value: Value) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ValueError(f"{dotted(path)} is inside of something that is no table")
    document[path[-1]] = value


def _edited(text: str, wanted: Mapping[str, Any], change: Callable[[Any], None]) -> str:
    """The text that tomlkit makes. Raises ValueError where it does not mean what is wanted."""
    try:
        proposed = tomlkit.parse(text)
        if proposed.as_string() != text:
            raise ValueError("it does not come out of the parser as it went in")
        change(proposed)
        result = proposed.as_string()
    except (TOMLKitError, TypeError, KeyError, AttributeError) as error:
        # tomlkit meets such a table with whatever its own code stumbles over.
        raise ValueError(str(error)) from error
    if tomllib.loads(result) != wanted:
        raise ValueError("the result would mean something else")
    return result


def _propose(document: Any, path: KeyPath, value: Any) -> None:  # noqa: ANN401 - tomlkit's tables
    """Set a key."""
    for depth, key in enumerate(path[:-1]):
        if key not in document:
            # Only the last table gets a header of its own: a header that stands already must not come twice.
            table, indent = tomlkit.table(is_super_table=depth < len(path) - 2), _indent_below(document)
            if isinstance(document, OutOfOrderTableProxy):
                document[key] = table
            else:
                document.append(key, table)
            if indent:
                document[key].indent(len(indent) + 2)  # its keys; a header takes its own indent
                document[key].trivia.indent = indent
        document = document[key]
    document[path[-1]] = value


def _indent_below(table: Any) -> str:  # noqa: ANN401 - tomlkit's tables
    """How the headers of tables inside of this one are indented."""
    inner = (one for one in table.values() if isinstance(one, Table))
    return next((one.trivia.indent for one in inner if not one.is_super_table()), "")


def _need_lines(fewer: str, more: str, changed: int) -> None:
    """Every line of `fewer` is in `more`, in order, but for `changed` of them. Raises ValueError."""
    # Without their ends: a last line may get the newline that it lacked.
    left, right = fewer.splitlines(), more.splitlines()
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    kept = sum(block.size for block in matcher.get_matching_blocks())
    if len(left) - kept > changed:
        raise ValueError("lines of others would change")
