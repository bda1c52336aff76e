"""`make bench-publish`: what it costs the daemon to tell: the picture, status.json, the metrics.

Method: the daemon's own code on a node of fakes, with the real files, once with an empty history and once
with a full one (100 transitions). Processor time of the thread, warm (in a row) and rested (each after 50 ms
of doing nothing, as in the daemon, which wakes to find its memory pushed out of the processor's caches). The
last rows are the cost of a second: published in full, as it was at first, and as it is done: at changes, and
else every fourth second.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from agent.config.model import Config
from agent.daemon import metrics, publish
from agent.daemon.documents import applied
from agent.daemon.drift import Drift
from agent.daemon.memory import Memory
from agent.daemon.service import Service
from agent.daemon.session import Session
from agent.daemon.settings import Places
from agent.daemon.view import Problems, View, marks, view_of
from agent.documents.status import Change
from tests.bench.report import Goal, Row, quick, row
from tests.bench.report import publish as report
from tests.fakes.daemon import FakeDaemonPorts

METHOD = "processor time of the daemon's own code on a node of fakes"
ENTRY = Change(
    1.0, "healthy", "suspect", "origin", "no ping and no canary was answered in time",
    "4003: silent for 600 ms",
    "mirror", "silent",
)  # fmt: skip
_QUIET_SECONDS = 4
_GOAL_US = 300.0
"""0.03 % of a core, where the whole daemon may take 0.5."""


def main() -> int:
    """Measure and publish."""
    small = quick()
    warm, rested = (100, 20) if small else (2000, 200)
    rows: list[Row] = []
    goals: list[Goal] = []
    for name, length in (("empty history", 0), ("full history", 100)):
        with tempfile.TemporaryDirectory(dir="/run") as scratch:
            works = dict(_works(Path(scratch), length))
            rows += [
                row(f"{name}: {what}, warm", list(_times(work, warm, 0)), "us")
                for what, work in works.items()
            ]
            found = {what: list(_times(work, rested, 0.05)) for what, work in works.items()}
        rows += [row(f"{name}: {what}, rested", values, "us") for what, values in found.items()]
        full, kept = found["all, nothing kept"], found["all, the history's text kept"]
        second = [
            look + each / _QUIET_SECONDS for look, each in zip(found["look for changes"], kept, strict=True)
        ]
        rows += [
            row(f"{name}: a second in full", full, "us"),
            row(f"{name}: a second as it is done", second, "us"),
        ]
        goals.append(Goal(f"{name}: a second as it is done, p50", rows[-1].p50, _GOAL_US, "us"))
    return report("publish", METHOD, rows, quick=small, goals=goals)


def _times(work: Callable[[], object], count: int, rest_s: float) -> Iterator[float]:
    """Microseconds of each of `count` times."""
    for _ in range(count):
        time.sleep(rest_s)
        started = time.thread_time_ns()
        work()
        yield (time.thread_time_ns() - started) / 1000


def _works(root: Path, length: int) -> Iterator[tuple[str, Callable[[], object]]]:
    session, drift = _session(root, length)
    problems = Problems()
    encoder = publish.Encoder()
    status = str(root / "status.json")

    def look() -> View:
        return view_of(session, drift, problems)

    view = look()
    content = encoder.encode(view)
    yield "look for changes", lambda: marks(session, drift, problems)
    yield "make the picture", look
    yield "encode, nothing kept", lambda: publish.Encoder().encode(view)
    yield "encode, the history's text kept", lambda: encoder.encode(view)
    yield "write", lambda: publish.write(status, content)
    yield "metrics for a scrape", lambda: metrics.render(view)
    yield "all, nothing kept", lambda: publish.write(status, publish.Encoder().encode(look()))
    yield "all, the history's text kept", lambda: publish.write(status, encoder.encode(look()))


def _session(root: Path, length: int) -> tuple[Session, Drift]:
    service = Service(Config, FakeDaemonPorts().ports(), Places.below(str(root)))
    service.record.history.extend(replace(ENTRY, at=time.time() + number) for number in range(length))
    memory = Memory("127.0.0.1:4001", "")
    return Session(service, asyncio.TaskGroup(), service.settle(applied(None)), memory), service.drift


if __name__ == "__main__":
    raise SystemExit(main())
