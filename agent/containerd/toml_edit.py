"""Keys into and out of a TOML text, with every other line as it was.

tomlkit proposes the text (`toml_tree`), or `toml_lines` where it cannot. What they propose is checked: it
must mean the input plus (or minus) the keys, and every line of the input must still be there, but for those
whose value changed. Anything else is an error, never a result.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from agent.containerd import toml_lines, toml_tree
from agent.containerd.keys import KeyPath, at, dotted, take

Value: TypeAlias = str | bool | Mapping[str, Any] | Sequence[Any]

FAILURES = (ValueError, TypeError, KeyError, AttributeError)
"""What `insert` and `remove` raise where the text cannot be had (AttributeError: tomlkit's for tables out of
order).
"""


def insert(text: str, wishes: Mapping[KeyPath, Value], *, exact: bool = True) -> str:
    """`text` with these keys set. Raises ValueError where the result would be more or less than that, or
    (`exact`) where lines of others would change.
    """
    before = tomllib.loads(text)
    wanted = copy.deepcopy(before)
    for path, value in wishes.items():
        _set(wanted, path, value)
    changed = sum(at(before, path) is not None for path in wishes)

    def right(result: str) -> None:
        _need_meaning(result, wanted)
        if exact:
            _need_lines(text, result, changed)

    return _first(right, lambda: toml_tree.insert(text, wishes), lambda: toml_lines.insert(text, wishes))


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
        right, lambda: toml_tree.remove(text, undo, before), lambda: toml_lines.remove(text, undo, before)
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


def replace_list(text: str, path: KeyPath, values: Sequence[str]) -> str:
    """`text` with other entries in a list that is there. Raises ValueError. For texts that nobody keeps."""
    return insert(text, {path: list(values)}, exact=False)


def _relisted(text: str, path: KeyPath, values: list[Any], change: Callable[[Any], None]) -> str:
    """A changed list: each of its lines may differ, and no other."""
    wanted = tomllib.loads(text)
    _set(wanted, path, values)
    result = toml_tree.relist(text, path, change)
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
