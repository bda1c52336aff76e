"""The history goes on over a restart of the agent, and nothing in its file can keep the agent from
starting.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.daemon.memory import recall

DOWN = {"at": 10.0, "from": "healthy", "to": "down", "route_from": "mirror", "route": "origin",
        "cause": "refused",
        "reason": "ping refused", "evidence": "4003"}  # fmt: skip


def status(path: Path, *history: object, **fields: object) -> str:
    document = {"apiVersion": "nydus-agent/v1", "kind": "DaemonStatus", "history": list(history), **fields}
    (path / "status.json").write_text(json.dumps(document))
    return str(path / "status.json")


def test_what_a_former_run_told_is_there_again_and_the_start_is_told_too(tmp_path: Path) -> None:
    first, start = recall(status(tmp_path, DOWN), 20.0)
    assert (first.at, first.from_, first.to, first.route_from, first.route) == (
        10.0, "healthy", "down", "mirror", "origin",
    )  # fmt: skip
    assert (first.cause, first.reason, first.evidence) == ("refused", "ping refused", "4003")
    assert (start.at, start.from_, start.to, start.route_from, start.route) == (
        20.0, "down", "unknown", "origin", "origin",
    )  # fmt: skip
    assert "started anew" in start.reason


def entry(of: Any) -> dict[str, object]:
    """As the daemon publishes it."""
    return {"at": of.at, "from": of.from_, "to": of.to, "route_from": of.route_from, "route": of.route,
            "cause": of.cause, "reason": of.reason, "evidence": of.evidence}  # fmt: skip


def test_a_crash_loop_does_not_fill_the_history_with_starts(tmp_path: Path) -> None:
    found = recall(status(tmp_path, DOWN), 20.0)
    again = recall(status(tmp_path, *map(entry, found)), 30.0)
    assert [one.at for one in again] == [10.0, 30.0]
    assert again[1].from_ == "down"


def test_no_more_is_kept_than_a_history_holds(tmp_path: Path) -> None:
    found = recall(status(tmp_path, *({**DOWN, "at": float(number)} for number in range(1, 301))), 1000.0)
    assert len(found) == 100
    assert (found[0].at, found[-2].at) == (202.0, 300.0)


@pytest.mark.parametrize(
    "history",
    [
        [],
        ["x", 7, None, []],
        [{"at": "soon"}],
        [{"at": True}],
        [{"at": float("inf")}],
        [{"at": -5}],
        {"at": 1.0},
    ],
)
def test_what_makes_no_sense_is_passed_over(tmp_path: Path, history: object) -> None:
    assert recall(status(tmp_path, history=history), 20.0) == ()


def test_an_entry_with_a_field_of_another_type_is_left_out_and_long_texts_are_cut(tmp_path: Path) -> None:
    found = recall(status(tmp_path, {**DOWN, "to": ["x"]}, {**DOWN, "reason": "y" * 5000}), 20.0)
    assert [len(one.reason) for one in found[:-1]] == [1000]


def test_a_document_of_another_kind_or_version_does_not_count(tmp_path: Path) -> None:
    assert recall(status(tmp_path, DOWN, kind="Proof"), 20.0) == ()
    assert recall(status(tmp_path, DOWN, apiVersion="nydus-agent/v2"), 20.0) == ()


def test_only_our_own_regular_file_of_a_modest_size_counts(tmp_path: Path) -> None:
    path = status(tmp_path, DOWN)
    os.chown(path, os.geteuid() + 1, -1)
    assert recall(path, 20.0) == ()
    os.chown(path, os.geteuid(), -1)
    Path(path).rename(tmp_path / "real")
    Path(path).symlink_to("real")
    assert recall(path, 20.0) == ()
    Path(path).unlink()
    os.mkfifo(path)
    assert recall(path, 20.0) == ()
    Path(path).unlink()
    assert recall(path, 20.0) == ()
    status(tmp_path, {**DOWN, "reason": "x" * (1 << 20)})
    assert recall(path, 20.0) == ()
    Path(path).write_text("[" * 100_000)
    assert recall(path, 20.0) == ()
