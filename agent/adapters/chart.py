"""Charts by matplotlib (Debian's python3-matplotlib, which the package only suggests)."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from typing import Any

from agent.bench.picture import Bar, Chart, Series
from agent.errors import FileError

_WIDTH = 0.8  # of a group, which is 1 wide
_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


class MatplotlibDrawing:
    """Without pyplot and without a display."""

    def missing(self) -> str:
        """See ports_bench.Drawing."""
        return "" if importlib.util.find_spec("matplotlib") is not None else "python3-matplotlib"

    def refused(self, path: str) -> str:
        """See ports_bench.Drawing."""
        directory = os.path.dirname(path) or "."
        if not os.path.isdir(directory):
            return f"{directory} is no directory"
        if os.path.isdir(path):
            return "it is a directory"
        return "" if os.access(directory, os.W_OK) else f"{directory} cannot be written to"

    def draw(self, chart: Chart, path: str) -> None:
        """See ports_bench.Drawing. matplotlib keeps its list of fonts in a directory that goes with the
        drawing.
        """
        with tempfile.TemporaryDirectory(prefix="nydus-agent-chart-") as scratch:
            os.environ.setdefault("MPLCONFIGDIR", scratch)
            from matplotlib import rcParams
            from matplotlib.figure import Figure

            rcParams["svg.fonttype"] = "none"  # text stays text: it can be searched, and the file is small
            figure = Figure(figsize=(4 + 3 * max(1, len(chart.groups)), 5), layout="constrained")
            axes = figure.add_subplot()
            axes.set_title(chart.title, fontsize="medium")
            axes.set_ylabel(chart.upwards)
            axes.set_xticks(range(len(chart.groups)), chart.groups)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
            for number, series in enumerate(chart.series):
                _draw_series(axes, series, number, len(chart.series))
            # Below the bars: beside them it would cover one, whichever image comes last.
            axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncol=3)
            try:
                figure.savefig(path)
            except (OSError, ValueError) as error:
                raise FileError(
                    "NNA1701", f"the chart cannot be written to {path}", cause=str(error)
                ) from None


# Matplotlib has no types.
def _draw_series(axes: Any, series: Series, number: int, of: int) -> None:  # noqa: ANN401
    width = _WIDTH / of
    colour = _COLOURS[number % len(_COLOURS)]
    name = (
        series.title if any(bar.seconds is not None for bar in series.bars) else f"{series.title} (not run)"
    )
    axes.bar([0], [0], width, color=colour, label=name)  # the legend's entry, also where no bar is drawn
    for group, bar in enumerate(series.bars):
        _draw_bar(axes, bar, group - _WIDTH / 2 + (number + 0.5) * width, width, colour)


def _draw_bar(axes: Any, bar: Bar, at: float, width: float, colour: str) -> None:  # noqa: ANN401
    if bar.seconds is None:
        axes.annotate(
            "not run", (at, 0), textcoords="offset points", xytext=(0, 4), rotation=90, ha="center",
            va="bottom",
            fontsize="x-small", color="gray",
        )  # fmt: skip
        return
    spread = [[bar.below], [bar.above]]
    axes.bar([at], [bar.seconds], width, color=colour, yerr=spread, capsize=3)
    axes.annotate(
        f"{bar.seconds:.2f}", (at, bar.seconds + bar.above), textcoords="offset points", xytext=(0, 3),
        ha="center",
        fontsize="x-small",
    )  # fmt: skip
