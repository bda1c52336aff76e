"""Keys into and out of a TOML text by tomlkit, which keeps what it does not change. What is made here is a
proposal, as in `toml_lines`. Raises ValueError, TypeError, KeyError or AttributeError (tomlkit's for tables
out of order) where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from agent.containerd.keys import KeyPath, at, take


def insert(text: str, wishes: Mapping[KeyPath, Any]) -> str:
    """`text` with these keys set."""
    return _changed(text, lambda proposed: _set_all(proposed, wishes))


def remove(text: str, undo: Mapping[KeyPath, Any], before: Mapping[str, Any]) -> str:
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


def relist(text: str, path: KeyPath, change: Callable[[Any], None]) -> str:
    """`text` with a list changed."""
    return _changed(text, lambda proposed: change(at(proposed, path)))


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
