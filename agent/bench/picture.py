"""The page's chart as data: a group of bars for each image, the cases in the page's order, seconds
upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.bench.cases import Case
from agent.bench.figures import Measured, ready


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: the median, and how far the quickest and the slowest run are from it. None: it was not run."""

    seconds: float | None
    below: float = 0.0
    above: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """The bars of one case, one for each group."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is drawn."""

    title: str
    upwards: str
    groups: tuple[str, ...]
    series: tuple[Series, ...]


def chart(measured: Sequence[Measured], what: str) -> Chart:
    """The chart of some pairs; `what` names the command and how often it was started."""
    series = tuple(Series(case.label, tuple(_bar(one, case) for one in measured)) for case in Case)
    return Chart(
        f"time to ready: {what}", "seconds until ready", tuple(one.pair.label for one in measured), series
    )


def _bar(one: Measured, case: Case) -> Bar:
    found = [result for result in one.results if result.case is case and result.runs]
    if not found:
        return Bar(None)
    seen = ready(found[0])
    return Bar(seen.p50, seen.p50 - seen.min, seen.max - seen.p50)
