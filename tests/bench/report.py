"""One form for all measurements: a table for people and build/bench/NAME.json for machines.

Every bench knows `--quick` (`make bench-NAME QUICK=1`): the same with a small n, in seconds or a few minutes,
written to NAME-quick.json so that it never replaces the figures of a full run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).parents[2] / "build" / "bench"


@dataclass(frozen=True)
class Row:
    """One case: `n` values of one unit. `extra` holds further columns, by their headings."""

    case: str
    n: int
    p50: float
    p99: float
    max: float
    unit: str
    errors: int = 0
    extra: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What was promised: `seen` is at most `limit`."""

    what: str
    seen: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it was kept."""
        return self.seen <= self.limit


def quick() -> bool:
    """Whether the command line asks for the quick form; ends the program on anything else that it holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a small n")
    return bool(parser.parse_args().quick)


def row(
    case: str,
    values: Sequence[float],
    unit: str,
    *,
    errors: int = 0,
    extra: Mapping[str, float | str] | None = None,
) -> Row:
    """The row of these values; of no values at all, zeros."""
    ordered = sorted(values) or [0.0]
    p99 = ordered[-(-len(ordered) * 99 // 100) - 1]  # the nearest rank: of 100 values the 99th
    return Row(case, len(values), statistics.median(ordered), p99, ordered[-1], unit, errors, extra or {})


def publish(
    name: str,
    method: str,
    rows: Sequence[Row],
    *,
    quick: bool = False,
    goals: Sequence[Goal] = (),
    directory: Path = DIRECTORY,
) -> int:
    """Print the table and write the JSON file. The exit status: 0, or 1 when a goal was missed."""
    form = f"{name}, quick form" if quick else name
    print(f"\n{form}: {method}\n\n{table(rows)}")
    for goal in goals:
        print(
            f"{'met' if goal.met else 'MISSED'}: {goal.what}: {_number(goal.seen)} {goal.unit} (at most "
            f"{goal.limit:g})"
        )
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "name": name,
        "method": method,
        "quick": quick,
        "rows": [asdict(entry) for entry in rows],
        "goals": [{**asdict(goal), "met": goal.met} for goal in goals],
    }
    path = directory / f"{name}{'-quick' if quick else ''}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if all(goal.met for goal in goals) else 1


def table(rows: Sequence[Row]) -> str:
    """The rows with their headings, in columns."""
    more = list(dict.fromkeys(heading for entry in rows for heading in entry.extra))
    lines = [("case", "n", "p50", "p99", "max", "unit", "errors", *more)]
    for entry in rows:
        figures = (str(entry.n), f"{entry.p50:.2f}", f"{entry.p99:.2f}", f"{entry.max:.2f}")
        others = (_number(entry.extra[heading]) if heading in entry.extra else "" for heading in more)
        lines.append((entry.case, *figures, entry.unit, str(entry.errors), *others))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    padded = (
        f"{cell:<{wide}}" if at in (0, 5) else f"{cell:>{wide}}"
        for at, (cell, wide) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _number(value: float | str) -> str:
    """Four figures that count; a rate may be far below a hundredth."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e12 else f"{value:.4g}"
