"""What a bench publishes: a table for people, a file of a stable form for machines, and whether its goals
were met.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.report import Goal, publish, row, table
from tests.runner import stages


def test_a_row_has_the_median_the_99th_of_a_hundred_and_the_largest() -> None:
    found = row("reads", [float(value) for value in range(1, 101)], "ms")
    assert (found.n, found.p50, found.p99, found.max, found.errors) == (100, 50.5, 99.0, 100.0, 0)


def test_extra_columns_stand_where_a_row_has_them() -> None:
    lines = table(
        [row("a", [1.0], "s", extra={"rate": 0.00012}), row("b", [2.0], "s", extra={"peak": 12000})]
    )
    head, first, second = (line.split() for line in lines.splitlines())
    assert head == ["case", "n", "p50", "p99", "max", "unit", "errors", "rate", "peak"]
    assert first == ["a", "1", "1.00", "1.00", "1.00", "s", "0", "0.00012"]
    assert second == ["b", "1", "2.00", "2.00", "2.00", "s", "0", "12,000"]


def test_a_quick_form_never_replaces_the_full_figures(tmp_path: Path) -> None:
    rows, goal = [row("a", [1.0], "s", extra={"rate": 0.5})], Goal("rate", 0.5, 0.4, "a month")
    assert publish("it", "made up", rows, goals=[goal], directory=tmp_path) == 1
    assert publish("it", "made up", rows, quick=True, directory=tmp_path) == 0
    full = json.loads((tmp_path / "it.json").read_text())
    short = json.loads((tmp_path / "it-quick.json").read_text())
    assert full == {
        "name": "it",
        "method": "made up",
        "quick": False,
        "rows": [
            {
                "case": "a",
                "n": 1,
                "p50": 1.0,
                "p99": 1.0,
                "max": 1.0,
                "unit": "s",
                "errors": 0,
                "extra": {"rate": 0.5},
            }
        ],
        "goals": [{"what": "rate", "seen": 0.5, "limit": 0.4, "unit": "a month", "met": False}],
    }
    assert short["quick"] is True


def test_a_bench_is_asked_for_its_quick_form_by_one_word() -> None:
    (full,), (short,) = (stages.bench("bench-startup", quick=quick).commands() for quick in (False, True))
    assert short.argv == (*full.argv, "--quick")
    assert "tests.bench.startup" in full.argv
