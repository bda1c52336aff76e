"""Follows what nydusd writes about real reads, and makes symptoms of it. A journal that cannot be followed, or that
dropped lines, means unknown: silence says nothing then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from agent.daemon.lines import classify
from agent.health.evidence import Symptom, SymptomKind, SymptomsUnknown
from agent.ports import Journal, JournalLine

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

    def __init__(self, journal: Journal, post: Post, fenced: Callable[[], bool]) -> None:
        self._journal = journal
        self._post = post
        self._fenced = fenced
        self._ended = asyncio.Event()
        self._told: str | None = None
        self._dropped = 0
        self._unknown_until = 0.0

    async def run(self) -> None:
        """For ever: begin, read, begin again after a pause."""
        loop = asyncio.get_running_loop()
        pause_s = _PAUSE_S
        while True:
            began = loop.time()
            if self._journal.problem:
                self._journal.start()
            await self._follow(loop)
            pause_s = _PAUSE_S if loop.time() - began > _STEADY_S else min(2 * pause_s, _PAUSE_MAX_S)
            await asyncio.sleep(pause_s)

    def look(self) -> None:
        """Once a second: what a descriptor does not tell (a complaint of the reader's), and the end of "unknown"."""
        if self._journal.fileno() != -1:
            self._read()
        self._tell()

    async def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ended.clear()
        descriptor = self._journal.fileno()
        self._tell()
        if descriptor == -1:
            return
        loop.add_reader(descriptor, self._read)
        try:
            await self._ended.wait()
        finally:
            loop.remove_reader(descriptor)  # before it is closed, or the number may be another one's
        self._journal.close()
        self._tell()

    def _read(self) -> None:
        lines = self._journal.lines()
        around = 0
        for symptom in filter(None, map(self._symptom, lines)):
            around += symptom.kind is SymptomKind.FALLBACK
            if symptom.kind is not SymptomKind.FALLBACK or around <= _AT_ONCE:
                self._post(symptom)
        dropped = sum(line.dropped for line in lines)
        if dropped:
            self._dropped = dropped
            self._unknown_until = asyncio.get_running_loop().time() + DROPPED_S
        if self._journal.problem:
            self._ended.set()
        if dropped or self._journal.problem:
            self._tell()

    def _symptom(self, line: JournalLine) -> Symptom | None:
        pattern = classify(line.text)
        if pattern is None or (pattern.kind is SymptomKind.FALLBACK and self._fenced()):
            return None  # while fenced, every read falls back: that is what the fence is for
        return Symptom(pattern.kind, f"nydusd: {pattern.means}", line.at)

    def _tell(self) -> None:
        problem = self._journal.problem
        if not problem and asyncio.get_running_loop().time() < self._unknown_until:
            problem = f"the journal dropped {self._dropped} lines of nydusd's"
        if problem != self._told:
            self._told = problem
            self._post(SymptomsUnknown(problem))
