"""How a stage's files are dealt out to runs of pytest that go side by side.

One run for all files waits while its tests wait, and a core with it; a run for each file would start Python
two hundred times. So what takes long is run by itself and begins first, and all other files share a few runs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Share:
    """Files of one run of pytest."""

    name: str
    paths: tuple[str, ...]


def shares(
    directory: Path, root: Path, longest: Sequence[str], count: int, *, without: Collection[str] = ()
) -> list[Share]:
    """All test files of a directory, but those that are run elsewhere, in the order in which they begin:
    those of `longest` (names without `test_` and suffix) each by itself, the others in `count` runs, dealt
    out by turns.
    """
    paths = sorted(str(path.relative_to(root)) for path in directory.rglob("test_*.py"))
    named = {Path(path).stem.removeprefix("test_"): path for path in paths if path not in without}
    first = [Share(f"{directory.name}-{name}", (named.pop(name),)) for name in longest]
    others = list(named.values())
    dealt = [Share(f"{directory.name}-{turn + 1}", tuple(others[turn::count])) for turn in range(count)]
    return [*first, *(share for share in dealt if share.paths)]
