"""What came of all combinations: one table for people, rows for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from tests.bench import report
from tests.node.matrix.run import Row


def text(rows: Sequence[Row]) -> str:
    """A line each."""
    head = ("containerd", "mode", "form", "apply s", "checks", "second apply", "removed", "verdict")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    verdict = row.verdict.partition("\n")[0][:80]
    return (
        row.containerd,
        row.mode,
        row.form,
        f"{row.apply_s:.1f}",
        row.checks,
        row.second_apply,
        row.removed,
        verdict,
    )


def save(rows: Sequence[Row], *, quick: bool) -> None:
    """Keep the rows beside the benches' figures, as those do."""
    report.DIRECTORY.mkdir(parents=True, exist_ok=True)
    file = report.DIRECTORY / ("matrix-quick.json" if quick else "matrix.json")
    file.write_text(json.dumps([{**asdict(row), "verdict": row.verdict} for row in rows], indent=1) + "\n")
