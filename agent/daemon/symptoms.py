"""Follows what nydusd writes about real reads, and makes symptoms of it. A journal that cannot be followed, or that
dropped lines, means unknown: silence says nothing then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from agent.daemon.lines import classify, failed
from agent.daemon.turning import Loop, Timer
from agent.health.evidence import Symptom, SymptomKind, SymptomsUnknown
from agent.ports_daemon import Journal, JournalLine

DROPPED_S = 10.0
"""How long "unknown" lasts after the journal dropped lines. It tells of that with the first line that passes again."""
_PAUSE_S, _PAUSE_MAX_S = 1.0, 60.0
"""Before the journal is followed again; doubled each time that it ended soon."""
_STEADY_S = 30.0
_AT_ONCE = 3
"""So many reads that went around the mirror are told of at a time: where nothing may be fenced, every read does."""

Post: TypeAlias = Callable[[Symptom | SymptomsUnknown], None]


class Symptoms:
    """The follower. It never holds anything up: it only reads what is there."""

    def __init__(
        self, loop: Loop, journal: Journal, post: Post, fenced: Callable[[], bool],
        failed_behind: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`failed_behind`: a read has failed although the mirror was fenced, so at the origin."""
        self._loop = loop
        self._journal = journal
        self._post = post
        self._fenced = fenced
        self._failed_behind = failed_behind
        self._followed = -1
        """The descriptor; -1: nothing is followed."""
        self._began = 0.0
        self._pause_s = _PAUSE_S
        self._timer: Timer | None = None
        self._told: str | None = None
        self._dropped = 0
        self._unknown_until = 0.0

    def begin(self) -> None:
        """Follow, and begin again, after a pause, whenever that ends. A journal that is followed already goes on."""
        self._began = self._loop.time()
        if self._journal.problem:
            self._journal.start()
        self._followed = self._journal.fileno()
        self._tell()
        if self._followed == -1:
            self._pause()
        else:
            self._loop.add_reader(self._followed, self._read)

    def close(self) -> None:
        """Look no more. The journal stays followed: another session goes on with it."""
        if self._timer is not None:
            self._timer.cancel()
        self._leave()

    def look(self) -> None:
        """Once a second: what a descriptor does not tell (a complaint of the reader's), and the end of "unknown"."""
        if self._journal.fileno() != -1:
            self._read()
        self._tell()

    def _leave(self) -> None:
        if self._followed != -1:
            self._loop.remove_reader(self._followed)  # before it is closed, or the number may be another one's
            self._followed = -1

    def _pause(self) -> None:
        steady = self._loop.time() - self._began > _STEADY_S
        self._pause_s = _PAUSE_S if steady else min(2 * self._pause_s, _PAUSE_MAX_S)
        self._timer = self._loop.call_later(self._pause_s, self.begin)

    def _read(self) -> None:
        lines = self._journal.lines()
        if lines and self._fenced() and any(failed(line.text) for line in lines):
            self._failed_behind()
        around = 0
        for symptom in filter(None, map(self._symptom, lines)):
            around += symptom.kind is SymptomKind.FALLBACK
            if symptom.kind is not SymptomKind.FALLBACK or around <= _AT_ONCE:
                self._post(symptom)
        dropped = sum(line.dropped for line in lines)
        if dropped:
            self._dropped = dropped
            self._unknown_until = self._loop.time() + DROPPED_S
        if dropped or self._journal.problem:
            self._tell()
        if self._journal.problem and self._followed != -1:
            self._leave()
            self._journal.close()
            self._tell()  # it may know more of the problem now
            self._pause()

    def _symptom(self, line: JournalLine) -> Symptom | None:
        pattern = classify(line.text)
        if pattern is None or (pattern.kind is SymptomKind.FALLBACK and self._fenced()):
            return None  # while fenced, every read falls back: that is what the fence is for
        return Symptom(pattern.kind, f"nydusd: {pattern.means}", line.at)

    def _tell(self) -> None:
        problem = self._journal.problem
        if not problem and self._loop.time() < self._unknown_until:
            problem = f"the journal dropped {self._dropped} lines of nydusd's"
        if problem != self._told:
            self._told = problem
            self._post(SymptomsUnknown(problem))
