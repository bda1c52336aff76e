"""How far a download is: one line that changes on a terminal, a line now and then elsewhere, nothing with JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from agent.artifacts.fetching import Progress
from agent.console import Console, Format
from agent.durations import in_words
from agent.ports_clock import Clock

_WIDTH = 24
_STEPS = 10
_QUIET_S = 5.0
"""Elsewhere: a line for each tenth, and one at least every so many seconds."""
_MIB = 1 << 20


@dataclass(slots=True)
class TransferProgress:
    """Takes the progress of one download after the other; used with `with`, its line is gone afterwards."""

    console: Console
    clock: Clock
    _told: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Artifact -> (tenths, when) of its last line."""
    _noted: set[str] = field(default_factory=set)

    def __call__(self, progress: Progress) -> None:
        """Tell it, where it is time to."""
        if self.console.format is Format.JSON:
            return
        if progress.note and progress.note not in self._noted:
            self._noted.add(progress.note)
            self.end()
            self.console.progress(f"{progress.artifact}: {progress.note}")
        if self.console.err.isatty():
            self.console.passing(f"{bar(progress)} {line(progress)}")
        elif self._is_due(progress):
            self.console.progress(line(progress))

    def _is_due(self, progress: Progress) -> bool:
        now = self.clock.monotonic()
        step = progress.received * _STEPS // progress.total if progress.total else 0
        last, at = self._told.get(progress.artifact, (-1, now))
        if last >= _STEPS or (step <= last and now < at + _QUIET_S):
            return False
        self._told[progress.artifact] = (step, now)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Take the line away."""
        if self.console.format is Format.TEXT:
            self.console.passing("")


def _part(progress: Progress) -> float:
    return min(1.0, progress.received / progress.total) if progress.total else 0.0


def bar(progress: Progress) -> str:
    """How much of it is there, as a picture."""
    filled = int(_part(progress) * _WIDTH)
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}]"


def line(progress: Progress) -> str:
    """The same in words and figures, with the rate and how long it will take."""
    received = f"{progress.received / _MIB:.1f}"
    size = f"{received} of {progress.total / _MIB:.1f} MiB" if progress.total else f"{received} MiB"
    words = [f"{progress.artifact}: {size}"]
    if progress.total:
        words.append(f"{_part(progress):.0%}")
    if progress.rate > 0:
        words.append(f"{progress.rate / _MIB:.1f} MiB/s")
        left = (progress.total - progress.received) / progress.rate
        if progress.total and left >= 1:
            words.append(f"{in_words(left)} left")
    return ", ".join(words)
