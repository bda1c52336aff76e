"""What real reads met: nydusd's lines in the journal, and the mirror's own counters of failures.

A journal that cannot be followed, or that dropped lines, means unknown: silence says nothing then. The
counters are taken only where the page is this node's own mirror's: a mirror elsewhere counts what others met
too.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from contextlib import closing

from agent.daemon.http_client import CLOSE, Connection, ProbeError, Url
from agent.daemon.tasks import jittered
from agent.health.evidence import Symptom, SymptomKind, SymptomsUnknown
from agent.health.symptoms import classify, failed
from agent.outside_json import LINE_CAP, sample
from agent.ports import Journal, JournalLine

DROPPED_S = 10.0
"""How long "unknown" lasts after the journal dropped lines. It tells of that with the first line that passes
again."""
_PAUSE_S, _PAUSE_MAX_S = 1.0, 60.0
"""Before the journal is followed again; doubled each time that it ended soon."""
_STEADY_S = 30.0
_ALONE_S = 60.0
"""Reads that have failed for so long count where it is asked whether one nydusd alone met that."""
_AT_ONCE = 3
"""So many reads that went around the mirror are told of at a time: where nothing may be fenced, every read
does."""

COUNTERS = (
    "dragonfly_client_proxy_request_failure_total",
    "dragonfly_client_proxy_request_rate_limited_total",  # 1.5.2 and newer
    "dragonfly_client_download_task_failure_total",
)
"""dragonfly-client-metric/src/lib.rs. A series is there from its first count on; a restart begins at 0."""
BLIND_S, EVERY_S = 2.0, 5.0
"""Between two looks at them: where nydusd's lines cannot be read, and where they can (they tell more, and
sooner)."""
_DEADLINE_S = 1.5
_PAGE_BYTES = 8 << 20
"""dfdaemon has a hundred series and more where peers, tags and applications are many; most of it is thrown
away."""


class JournalSymptoms:
    """Follows nydusd's lines. It never holds anything up: it only reads what is there.

    `fenced` says whether the mirror is; `failed_behind` hears that a read has failed although it was, so at
    the origin; `readers` says how many nydusds run.
    """

    def __init__(
        self,
        journal: Journal,
        take: Callable[[Symptom | SymptomsUnknown], None],
        fenced: Callable[[], bool],
        failed_behind: Callable[[], None],
        readers: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._take = take
        self._fenced = fenced
        self._failed_behind = failed_behind
        self._readers = readers
        self._met: dict[int, float] = {}
        """When each nydusd met a failure last."""
        self._awake = asyncio.Event()
        self._pause_s = _PAUSE_S
        self._told: str | None = None
        self._dropped = 0
        self._unknown_until = 0.0

    async def run(self) -> None:
        """Follow, and begin again, after a pause, whenever that ends. A journal that is followed already goes
        on, and stays followed where this is cancelled: another session goes on with it.
        """
        while True:
            began = _now()
            if self._journal.problem:
                self._journal.start()
            self._tell()
            if self._journal.fileno() != -1:
                await self._follow()
            steady = _now() - began > _STEADY_S
            self._pause_s = _PAUSE_S if steady else min(2 * self._pause_s, _PAUSE_MAX_S)
            await asyncio.sleep(self._pause_s)

    def check(self) -> None:
        """Once a second: what a descriptor does not tell (a complaint of the reader's), and the end of
        "unknown"."""
        if self._journal.fileno() != -1:
            self._read()
            if self._journal.problem:
                self._awake.set()
        self._tell()

    async def _follow(self) -> None:
        loop, descriptor = asyncio.get_running_loop(), self._journal.fileno()
        loop.add_reader(descriptor, self._awake.set)
        try:
            while not self._journal.problem:
                await self._awake.wait()
                self._awake.clear()
                if not self._journal.problem:
                    self._read()
        finally:
            loop.remove_reader(descriptor)  # before it is closed, or the number may be another one's
        self._journal.close()
        self._tell()  # it may know more of the problem now

    def _read(self) -> None:
        lines = self._journal.lines()
        if lines and self._fenced() and any(failed(line.text) for line in lines):
            self._failed_behind()
        around = 0
        for symptom in filter(None, map(self._symptom, lines)):
            around += symptom.kind is SymptomKind.FALLBACK
            if symptom.kind is not SymptomKind.FALLBACK or around <= _AT_ONCE:
                self._take(symptom)
        dropped = sum(line.dropped for line in lines)
        if dropped:
            self._dropped = dropped
            self._unknown_until = _now() + DROPPED_S
        if dropped or self._journal.problem:
            self._tell()

    def _symptom(self, line: JournalLine) -> Symptom | None:
        pattern = classify(line.text)
        if pattern is None or (pattern.kind is SymptomKind.FALLBACK and self._fenced()):
            return None  # while fenced, every read falls back: that is what the fence is for
        self._met = {pid: at for pid, at in self._met.items() if line.at - at < _ALONE_S} | {
            line.pid: line.at
        }
        alone = len(self._met) == 1 and line.pid != 0 and self._readers() > 1
        return Symptom(pattern.kind, f"nydusd: {pattern.means}", line.at, alone)

    def _tell(self) -> None:
        problem = self._journal.problem
        if not problem and _now() < self._unknown_until:
            problem = f"the journal dropped {self._dropped} lines of nydusd's"
        if problem != self._told:
            self._told = problem
            self._take(SymptomsUnknown(problem))


class Tally:
    """Adds up the wanted counters over all their labels, from a page that comes in pieces."""

    def __init__(self, wanted: tuple[str, ...] = COUNTERS) -> None:
        self.totals = dict.fromkeys(wanted, 0.0)
        self._starts = tuple(name.encode() for name in wanted)
        self._rest = b""

    def take(self, piece: bytes) -> None:
        """One piece more."""
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[: LINE_CAP + 1]  # what is longer is no figure, whatever comes
        for line in lines:
            self._line(line)

    def end(self) -> Mapping[str, float]:
        """The totals; a series that is not there yet counts as 0."""
        self._line(self._rest)
        return self.totals

    def _line(self, line: bytes) -> None:
        found = sample(line.decode(errors="replace")) if line.startswith(self._starts) else None
        if found is not None and found.name in self.totals:
            self.totals[found.name] += found.value


def near(metrics: Url, proxy: Url) -> bool:
    """Whether the metrics are those of the mirror itself: the same address, or both on this node's
    loopback.
    """
    return metrics.host == proxy.host or (_loopback(metrics.host) and _loopback(proxy.host))


def growth(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """By how much each counter grew; one that is smaller now was begun anew."""
    grown = {name: value if value < before[name] else value - before[name] for name, value in now.items()}
    return {name: by for name, by in grown.items() if by > 0}


class CounterSymptoms:
    """Asks for the mirror's counters again and again. `counts` says whether what grew since the last time is
    evidence (while the fence is up and just after, the connections that it has ended are counted as
    failures), `blind` whether nothing else tells of reads.
    """

    def __init__(
        self,
        metrics: Url,
        take: Callable[[Symptom], None],
        counts: Callable[[], bool],
        blind: Callable[[], bool],
    ) -> None:
        self._metrics = metrics
        self._take = take
        self._counts = counts
        self._blind = blind
        self._before: Mapping[str, float] | None = None

    async def run(self) -> None:
        """Again and again, from a while on."""
        while True:
            await asyncio.sleep(jittered(BLIND_S if self._blind() else EVERY_S))
            await self.check()

    async def check(self) -> None:
        """Ask once. A page that cannot be had says nothing; nor do no counters mean counters at 0."""
        tally = Tally()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                with closing(Connection(self._metrics.host, self._metrics.port)) as connection:
                    answer = await connection.ask(self._metrics.path, self._metrics.authority, CLOSE)
                    await connection.body(answer, tally.take, _PAGE_BYTES)
        except (ProbeError, TimeoutError):
            return
        if answer.status == 200:
            self._compare(tally.end())

    def _compare(self, now: Mapping[str, float]) -> None:
        before, self._before = self._before, now
        grown = {} if before is None or not self._counts() else growth(before, now)
        if grown:
            text = ", ".join(
                f"{name.removeprefix('dragonfly_client_')} +{by:.0f}" for name, by in grown.items()
            )
            self._take(Symptom(SymptomKind.COUNTER, f"the mirror counts {text}", _now()))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _now() -> float:
    return asyncio.get_running_loop().time()
