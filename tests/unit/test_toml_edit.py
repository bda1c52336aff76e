"""Texts that cannot be edited exactly are refused with a reason, never with a bug report."""

from __future__ import annotations

import pytest

from agent.containerd.toml_edit import FAILURES, insert

OUT_OF_ORDER = """\
[plugins."cri".cni]
dir = "/etc/cni"
[metrics]
address = "x"
[plugins."cri".registry]
path = "y"
"""


def test_tables_out_of_order_are_edited_exactly_or_refused() -> None:
    try:
        text = insert(OUT_OF_ORDER, {("plugins", "cri", "containerd", "runtimes", "nydus", "type"): "x"})
    except FAILURES:
        return
    assert [line for line in OUT_OF_ORDER.splitlines() if line not in text.splitlines()] == []


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(FAILURES):
        insert("this is none", {("a",): "x"})
