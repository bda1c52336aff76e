"""Files whose tables are in an order that a TOML library cannot edit: line by line, and checked."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.containerd import toml_lines
from agent.containerd.keys import KeyPath, at
from agent.containerd.toml_edit import Value, insert, remove

OUT_OF_ORDER = """\
version = 2 # kept
[a.b.c]
  # a comment
  x = true  # why

[a]
  y = 'old' # one
[a."b.d"] # dots
[z]
s = 1
"""


@pytest.mark.parametrize(
    ("path", "value", "lines"),
    [
        (("a", "y"), "new", ['  y = "new" # one']),
        (("a", "b", "c", "x"), False, ["  x = false  # why"]),
        (("a", "b", "c", "n"), "v", ['  n = "v"']),
        (("a", "b.d", "k"), True, ["k = true"]),
        (("a", "b", "k"), True, ["", "[a.b]", "k = true"]),
        (("w", "w.w", "k"), True, ["", '[w."w.w"]', "k = true"]),
        (("version",), "3", None),
    ],
)
def test_a_key_goes_where_its_table_is(path: tuple[str, ...], value: Any, lines: list[str] | None) -> None:
    if lines is None:
        with pytest.raises(ValueError, match="no value that could be replaced"):
            toml_lines.insert(OUT_OF_ORDER, {path: value})
        return
    result = toml_lines.insert(OUT_OF_ORDER, {path: value})
    assert at(tomllib.loads(result), path) == value
    assert [
        line for line in result.splitlines() if line not in OUT_OF_ORDER.splitlines() or line in lines
    ] != []
    assert all(line in result.splitlines() for line in lines)
    old = OUT_OF_ORDER.splitlines()
    assert len([line for line in old if line not in result.splitlines()]) <= 1


def test_taking_a_table_of_ours_out_again_leaves_no_trace() -> None:
    before = tomllib.loads(OUT_OF_ORDER)
    wishes: dict[KeyPath, Value] = {
        ("p", "n", "t"): "snapshot",
        ("p", "n", "e", "root"): "/x",
        ("a", "b", "c", "k"): True,
        ("a", "y"): "new",
    }
    result = insert(OUT_OF_ORDER, wishes)
    assert remove(result, {path: at(before, path) for path in wishes}, before) == OUT_OF_ORDER.replace(
        "'old'", '"old"'
    )


def test_a_header_inside_of_a_string_leads_to_no_wrong_edit() -> None:
    """What lines propose here is wrong, and never comes through."""
    text = '[p.q.r]\nx = 1\n[p]\ns = """\n[p.q]\n"""\n'
    proposed = toml_lines.insert(text, {("p", "q", "k"): True})
    assert at(tomllib.loads(proposed), ("p", "q", "k")) is None
    assert at(tomllib.loads(insert(text, {("p", "q", "k"): True})), ("p", "q", "k")) is True


KEYS = st.sampled_from(["a", "b", "c d", "e.f"])
HEADERS = st.lists(st.lists(KEYS, min_size=1, max_size=3), max_size=5, unique_by=tuple)


@given(headers=HEADERS, path=st.lists(KEYS, min_size=2, max_size=4), value=st.sampled_from([True, "x"]))
def test_any_order_of_tables_is_edited_exactly_or_refused(
    headers: list[list[str]], path: list[str], value: Any
) -> None:
    names = [".".join(json.dumps(key) for key in header) for header in headers]
    text = "".join(f"[{name}]\nold = 'y' # {number}\n" for number, name in enumerate(names))
    try:
        before = tomllib.loads(text)
        result = insert(text, {(*path, "new"): value})
    except ValueError:
        return
    document = tomllib.loads(result)
    assert at(document, (*path, "new")) == value
    assert all(line in result.splitlines() for line in text.splitlines())
    assert tomllib.loads(remove(result, {(*path, "new"): None}, before)) == before
