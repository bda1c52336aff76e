"""The figures of a bench: median and spread, the table, the order that the page's chart shows, and the
document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agent.bench.cases import Case, CaseResult, Counted, from_mirror, from_origin, mb

_Bytes: TypeAlias = Callable[[Case, Counted], int | None]

HEADER = (
    "case", "n", "min", "p50", "max", "IQR", "MAD", "first output", "pull", "from origin", "from mirror",
    "source/remote/local",
)  # fmt: skip
"""Seconds until ready, then medians: seconds and MB; the last is what dfdaemon brought, by where from."""

_MOVED: Mapping[str, Callable[[Counted], int | None]] = {
    "pulled": lambda counted: counted.pulled,
    "nydusd_fetched": lambda counted: counted.fetched,
    "back_to_source": lambda counted: counted.source,
    "remote_peer": lambda counted: counted.remote,
    "local_peer": lambda counted: counted.local,
    "received": lambda counted: counted.received,
}
"""The evidence of a case, by the words of those who count it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What n values are like; of none, all zero."""

    n: int
    min: float
    p50: float
    max: float
    iqr: float
    """The difference of the quartiles (linear between the ranks)."""
    mad: float
    """The median of the distances from the median."""


@dataclass(frozen=True, slots=True)
class ImagePair:
    """A plain image and the same in nydus format; either may be missing (""). One group of the chart."""

    oci: str
    nydus: str

    @property
    def label(self) -> str:
        """The image's name without registry and directories."""
        return (self.oci or self.nydus).rpartition("/")[2].partition("@")[0]


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of one pair, in the chart's order."""

    pair: ImagePair
    results: tuple[CaseResult, ...]
    cut: str = ""
    """Why it was ended before all was measured; "" = it was not."""

    @property
    def tells(self) -> bool:
        """Whether there is anything to tell of it: a run, or why this node gives none."""
        return not self.cut or any(result.runs for result in self.results)


def spread(values: Sequence[float]) -> Spread:
    """The spread of these values, in any order."""
    if not values:
        return Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    middle = quantile(ordered, 0.5)
    far = sorted(abs(value - middle) for value in ordered)
    iqr = quantile(ordered, 0.75) - quantile(ordered, 0.25)
    return Spread(len(ordered), ordered[0], middle, ordered[-1], iqr, quantile(far, 0.5))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the ordered values lies, linear between two ranks."""
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def ready(result: CaseResult) -> Spread:
    """Seconds until ready."""
    return spread([run.ready_s for run in result.runs])


def _pulled(result: CaseResult) -> Spread:
    return spread([run.pull_s for run in result.runs])


def _first_output(result: CaseResult) -> Spread:
    """Of the runs that had one."""
    return spread([run.output_s for run in result.runs if run.output_s is not None])


def rows(results: Sequence[CaseResult]) -> list[tuple[str, ...]]:
    """The table's rows below HEADER; a case without runs says why instead."""
    return [
        _row(result) if result.runs else (result.case.label, f"not run: {result.not_run}")
        for result in results
    ]


def _row(result: CaseResult) -> tuple[str, ...]:
    seen, output = ready(result), _first_output(result)
    times = (seen.min, seen.p50, seen.max, seen.iqr, seen.mad)
    return (
        result.case.label,
        str(seen.n),
        *(f"{value:.2f} s" for value in times),
        f"{output.p50:.2f} s" if output.n else "none",
        f"{_pulled(result).p50:.2f} s",
        _bytes(result, from_origin),
        _bytes(result, from_mirror),
        _brought(result),
    )


def _brought(result: CaseResult) -> str:
    """What dfdaemon brought meanwhile, for everybody, in MB by where from."""
    sizes = [_middle(result, _MOVED[name]) for name in ("back_to_source", "remote_peer", "local_peer")]
    known = [f"{size / 1e6:.1f}" for size in sizes if size is not None]
    return f"{'/'.join(known)} MB" if len(known) == len(sizes) else "not known"


def _bytes(result: CaseResult, of: _Bytes) -> str:
    median = _median(result, of)
    return "not known" if median is None else mb(median)


_CLAIMS = (
    (Case.OCI, "slower than", Case.NYDUS),
    (Case.NYDUS, "not faster than", Case.LOCAL),
    (Case.NYDUS, "not faster than", Case.REMOTE),
    (Case.LOCAL, "slower than", Case.CACHE),
)


def order(results: Sequence[CaseResult]) -> tuple[tuple[str, bool], ...]:
    """What the page's chart shows of these cases, in words, and whether it holds here, by the medians."""
    medians = {result.case: ready(result).p50 for result in results if result.runs}
    found = []
    for slow, how, quick in _CLAIMS:
        if slow in medians and quick in medians:
            ratio = medians[slow] / medians[quick]
            seconds = f"{medians[slow]:.2f} s, {medians[quick]:.2f} s (x {ratio:.2f})"
            holds = ratio > 1 if how == "slower than" else ratio >= 1
            found.append((f"{slow.label} {how} {quick.label}: {seconds}", holds))
    return tuple(found)


def body(measured: Sequence[Measured]) -> list[Mapping[str, object]]:
    """The pairs of the document of kind Bench."""
    return [
        {
            "label": one.pair.label,
            "oci": one.pair.oci,
            "nydus": one.pair.nydus,
            "incomplete": one.cut,
            "cases": [_case(result) for result in one.results],
            "order": [{"claim": claim, "holds": holds} for claim, holds in order(one.results)],
        }
        for one in measured
    ]


def _case(result: CaseResult) -> Mapping[str, object]:
    times = {
        "ready_s": ready(result), "first_output_s": _first_output(result), "pull_s": _pulled(result),
    }  # fmt: skip
    runs = [
        {"pull_s": run.pull_s, "first_output_s": run.output_s, "ready_s": run.ready_s, "bytes": run.counted}
        for run in result.runs
    ]
    return {
        "case": result.case,
        "title": result.case.label,
        "not_run": result.not_run if not result.runs else "",
        **{name: seen if seen.n else None for name, seen in times.items()},
        "origin_bytes": _median(result, from_origin),
        "mirror_bytes": _median(result, from_mirror),
        "moved": {name: _middle(result, of) for name, of in _MOVED.items()},
        "runs": runs,
    }


def _median(result: CaseResult, of: _Bytes) -> int | None:
    return _middle(result, lambda counted: of(result.case, counted))


def _middle(result: CaseResult, of: Callable[[Counted], int | None]) -> int | None:
    """A median in whole bytes, of the runs of which it is known."""
    known = spread([size for run in result.runs if (size := of(run.counted)) is not None])
    return round(known.p50) if known.n else None


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is drawn: seconds until ready."""

    title: str
    groups: tuple[str, ...]
    """The images' names."""
    bars: Mapping[Case, tuple[Spread, ...]]
    """Of each case one for each group: the median, and the range; n is 0 where it was not run."""


def chart(measured: Sequence[Measured], what: str) -> Chart:
    """The chart of some pairs; `what` names the command and how often it was started."""
    seen = [{result.case: ready(result) for result in one.results} for one in measured]
    bars = {case: tuple(one.get(case, spread(())) for one in seen) for case in Case}
    return Chart(f"time to ready: {what}", tuple(one.pair.label for one in measured), bars)
