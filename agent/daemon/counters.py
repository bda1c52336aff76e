"""The mirror's own counters of failures, from its metrics page: what a read met that nydusd does not tell of.

Taken only where the page is this node's own mirror's: a mirror elsewhere counts what others met too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from agent.daemon.http import CLOSE, Answer, Connection, ProbeError, Url
from agent.daemon.probes import jittered
from agent.daemon.turning import Loop, Timer
from agent.health.evidence import Symptom, SymptomKind

COUNTERS = (
    "dragonfly_client_proxy_request_failure_total",
    "dragonfly_client_proxy_request_rate_limited_total",  # 1.5.2 and newer
    "dragonfly_client_download_task_failure_total",
)
"""dragonfly-client-metric/src/lib.rs. A series is there from its first count on; a restart begins at 0."""
BLIND_S, EVERY_S = 2.0, 5.0
"""Between two looks: where nydusd's lines cannot be read, and where they can (they tell more, and sooner)."""
_DEADLINE_S = 1.5
_PAGE_BYTES = 8 << 20
"""dfdaemon has a hundred series and more where peers, tags and applications are many; most of it is thrown away."""


class Tally:
    """Adds up the wanted counters over all their labels, from a page that comes in pieces."""

    def __init__(self, wanted: tuple[str, ...] = COUNTERS) -> None:
        self.totals = dict.fromkeys(wanted, 0.0)
        self._starts = tuple(name.encode() for name in wanted)
        self._rest = b""

    def take(self, piece: bytes) -> None:
        """One piece more."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._line(line)

    def end(self) -> Mapping[str, float]:
        """The totals; a series that is not there yet counts as 0."""
        self._line(self._rest)
        return self.totals

    def _line(self, line: bytes) -> None:
        if not line.startswith(self._starts):
            return
        name, _, value = line.decode(errors="replace").rpartition(" ")
        name = name.partition("{")[0].strip()
        try:
            self.totals[name] += float(value)
        except (KeyError, ValueError):
            return  # another series whose name only begins so, or a line with a time stamp


def near(metrics: Url, proxy: Url) -> bool:
    """Whether the metrics are those of the mirror itself: the same address, or both on this node's loopback."""
    return metrics.host == proxy.host or (_loopback(metrics.host) and _loopback(proxy.host))


def growth(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """By how much each counter grew; one that is smaller now was begun anew."""
    grown = {name: value if value < before[name] else value - before[name] for name, value in now.items()}
    return {name: by for name, by in grown.items() if by > 0}


class Counters:
    """Asks again and again. `counts` says whether what grew since the last look is evidence (while the fence is up and
    just after, the connections that it has ended are counted as failures), `blind` whether nothing else tells of reads.
    """

    def __init__(
        self,
        loop: Loop,
        metrics: Url,
        post: Callable[[Symptom], None],
        counts: Callable[[], bool],
        blind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = loop
        self._metrics = metrics
        self._post = post
        self._counts = counts
        self._blind = blind
        self._before: Mapping[str, float] | None = None
        self._connection: Connection | None = None
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Again and again, from a while on."""
        every_s = BLIND_S if self._blind() else EVERY_S
        self._timer = self._loop.call_later(jittered(every_s), lambda: self.look(self.begin))

    def close(self) -> None:
        """No more, and wait for no answer."""
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def look(self, over: Callable[[], None]) -> None:
        """One look. A page that cannot be had says nothing."""
        tally = Tally()

        def answered(answer: Answer | ProbeError | None) -> None:
            self.close()
            if isinstance(answer, Answer) and answer.status == 200:  # no counters are not counters at 0
                self._compare(tally.end())
            over()

        self._timer = self._loop.call_later(_DEADLINE_S, lambda: answered(None))
        try:
            self._connection = Connection.begin(self._loop, self._metrics.host, self._metrics.port)
            self._connection.ask(self._metrics.path, self._metrics.authority, CLOSE, tally.take, answered, _PAGE_BYTES)
        except ProbeError as error:
            answered(error)

    def _compare(self, now: Mapping[str, float]) -> None:
        before, self._before = self._before, now
        grown = {} if before is None or not self._counts() else growth(before, now)
        if grown:
            text = ", ".join(f"{name.removeprefix('dragonfly_client_')} +{by:.0f}" for name, by in grown.items())
            self._post(Symptom(SymptomKind.COUNTER, f"the mirror counts {text}", self._loop.time()))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
