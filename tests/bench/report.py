"""One form for all measurements: a table for people and build/bench/NAME.json for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parents[2] / "build" / "bench"


@dataclass(frozen=True)
class Row:
    """One case: `n` values of one unit."""

    case: str
    n: int
    p50: float
    p99: float
    max: float
    unit: str
    errors: int = 0


def row(case: str, values: Sequence[float], unit: str, *, errors: int = 0) -> Row:
    """The row of these values; of no values at all, zeros."""
    ordered = sorted(values) or [0.0]
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Row(case, len(values), statistics.median(ordered), p99, ordered[-1], unit, errors)


def publish(name: str, method: str, rows: Sequence[Row]) -> None:
    """Print the table and write the JSON file."""
    print(f"\n{name}: {method}\n")
    width = max(len(entry.case) for entry in rows)
    print(f"{'case':<{width}}  {'n':>4} {'p50':>10} {'p99':>10} {'max':>10}  unit     errors")
    for entry in rows:
        print(
            f"{entry.case:<{width}}  {entry.n:>4} {entry.p50:>10.2f} {entry.p99:>10.2f} {entry.max:>10.2f}"
            f"  {entry.unit:<8} {entry.errors}"
        )
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "method": method, "rows": [asdict(entry) for entry in rows]}
    (DIRECTORY / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
