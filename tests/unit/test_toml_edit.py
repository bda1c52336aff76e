"""Files whose tables come in any order are edited exactly, or refused with a reason."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.containerd.toml_edit import Value, insert, remove
from agent.containerd.view import KeyPath, at

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


def test_a_header_inside_of_a_string_is_no_table() -> None:
    text = '[p.q.r]\nx = 1\n[p]\ns = """\n[p.q]\n"""\n'
    assert at(tomllib.loads(insert(text, {("p", "q", "k"): True})), ("p", "q", "k")) is True


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected"):
        insert("this is none", {("a",): "x"})


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
