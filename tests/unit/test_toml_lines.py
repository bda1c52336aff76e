"""Files whose tables are in an order that a TOML library cannot edit: line by line, and checked."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.containerd import toml_edit
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
            toml_edit.insert_by_lines(OUT_OF_ORDER, {path: value})
        return
    result = toml_edit.insert_by_lines(OUT_OF_ORDER, {path: value})
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
    proposed = toml_edit.insert_by_lines(text, {("p", "q", "k"): True})
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


@pytest.mark.parametrize(
    "text",
    [
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n'
        '  SystemdCgroup = true\n[metrics]\n  address = "127.0.0.1:1338"\n'
        '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n',
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n'
        '  SystemdCgroup = true\n[grpc]\n  gid = 0\n[plugins."io.containerd.grpc.v1.cri".containerd]\n'
        '  default_runtime_name = "runc"\n',
        'version = 2\n  [debug]\n  level = "info"\n',
    ],
)
def test_files_as_installers_write_them_are_edited_and_given_back_whatever_tomlkit_can(text: str) -> None:
    wishes: dict[KeyPath, Value] = {
        ("plugins", "io.containerd.grpc.v1.cri", "containerd", "snapshotter"): "nydus",
    }
    before = tomllib.loads(text)
    assert tomllib.loads(remove(insert(text, wishes), dict.fromkeys(wishes), before)) == before
