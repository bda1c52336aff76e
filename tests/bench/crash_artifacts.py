"""`make bench-crash-artifacts`: installing, mending and going back, killed, failed and cut off by power.

Method: tests.bench.survival.artifacts. Each act runs in a process of its own on real files. It is killed (SIGKILL) at
random moments and before each call that changes files, each call on files is failed with each error that it can end
with, and from the recorded calls every tree that may be found after a power cut is made. After each of these `current`
must be the set before or the set after, every set whole to the byte, and the act done again must come to its end.
"""

from __future__ import annotations

import errno
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from agent.errors import AgentError
from tests.bench.report import quick
from tests.bench.survival import artifacts, powercut, run
from tests.bench.survival.artifacts import Scenario
from tests.bench.survival.boundaries import ERRORS, Count, failures
from tests.bench.survival.disk import lay
from tests.bench.survival.install_command import Prepared
from tests.bench.survival.tally import Tally, measure
from tests.bench.survival.warden import KILL, Call, calls_of, watch_process

METHOD = "real files; processes killed (SIGKILL), failed (seccomp), power cut; times are those of the act done again"
SEED = 2026
_TRIES = 5
"""Starts for each kill: on a machine that is busy elsewhere many are done before their moment comes."""
LARGE, SMALL = artifacts.Size(1 << 19), artifacts.Size(1000)


@dataclass(frozen=True)
class Extent:
    """How much of it."""

    random: int
    """Processes killed at random moments, for each act."""
    failed: int
    """Every how manyth call is failed."""
    cut: int
    """Every how manyth call is followed by a power cut."""
    commands: int
    """Kills of the whole command, which downloads in a process of its own."""


FULL = Extent(random=400, failed=1, cut=1, commands=200)
QUICK = Extent(random=50, failed=8, cut=16, commands=8)


def main() -> int:
    """Run, publish, and say what went wrong."""
    small = quick()
    extent = QUICK if small else FULL
    return measure("crash-artifacts", METHOD, "stores", lambda scratch: rounds(extent, scratch), quick=small)


def rounds(extent: Extent, scratch: Path) -> Iterator[Tally]:
    """All rounds of all acts."""
    for name in artifacts.NAMES:
        for size in (LARGE, SMALL):
            place = scratch / f"{name}.{size.length}"
            place.mkdir()
            scenario = artifacts.prepare(name, size, place)
            if size is LARGE:
                yield kill_at_random(scenario, "killed at random", scenario.start, extent.random, place / "round")
                continue
            yield kill_before_each(scenario, place / "round")
            yield from fail_each(scenario, place / "round", extent.failed)
            yield cut_power(scenario, place / "round", extent.cut)
    place = scratch / "command"
    whole = Prepared(LARGE, place)  # what the command has started lives on as long as it likes
    yield kill_at_random(whole.scenario, "the command killed at random", whole.start, extent.commands, place / "round")


def judge(scenario: Scenario, root: Path, tally: Tally, where: str) -> None:
    """Look at the store, do the act again, look again."""
    try:
        why = scenario.wrong(root)
        before = artifacts.State.of(root).current == scenario.before.current
        began = time.monotonic()
        why = why or scenario.unfinished(root)
        tally.recoveries_ms.append((time.monotonic() - began) * 1000)
    except AgentError as error:
        why, before = f"the store cannot be read: {error}", False
    if why:
        tally.mixed(where, why)
    else:
        tally.counts["before" if before else "after"] += 1


class Killable(Protocol):
    """A process under way."""

    def kill_after(self, seconds: float) -> int:
        """SIGKILL in so many seconds; its exit status, or -9."""


def kill_at_random(scenario: Scenario, what: str, start: Callable[[Path], Killable], count: int, root: Path) -> Tally:
    """Spread evenly over the act's length, which is measured anew now and then: others use the machine too."""
    tally = Tally(f"{scenario.name}, {what}")
    chance = random.Random(f"{scenario.name} {SEED}")
    length = 0.0
    for number in range(_TRIES * count):
        if tally.counts["killed"] == count:
            break
        if number % 25 == 0:
            length = _length(scenario, root)
        moment = chance.random() * length
        scenario.copy(root)
        if start(root).kill_after(moment) == -9:  # else it was done before
            tally.counts["killed"] += 1
            judge(scenario, root, tally, f"killed after {moment * 1000:.1f} of {length * 1000:.0f} ms")
    return tally


def _length(scenario: Scenario, root: Path) -> float:
    took = []
    for _ in range(3):
        scenario.copy(root)
        began = time.monotonic()
        assert scenario.start(root).wait() == run.OK, run.said(root)
        took.append(time.monotonic() - began)
    return statistics.median(took)


def _calls(scenario: Scenario, root: Path) -> list[Call]:
    scenario.copy(root)
    return calls_of(root, lambda first: scenario.start(root, first))


def kill_before_each(scenario: Scenario, root: Path) -> Tally:
    """One round for each call that changes something."""
    tally = Tally(f"{scenario.name}, killed before each call")
    total = sum(call.makes for call in _calls(scenario, root))
    for at in range(1, total + 1):
        count = Count(at, KILL, lambda call: call.makes)
        scenario.copy(root)
        ended = watch_process(root, lambda first: scenario.start(root, first), count)
        where = f"before call {at} of {total}, {_words(count.met)}"
        tally.counts["killed"] += ended == -9
        if ended == -9:
            judge(scenario, root, tally, where)
        else:
            tally.mixed(where, f"it was not killed, it ended with {ended}")
    return tally


def fail_each(scenario: Scenario, root: Path, every: int) -> Iterator[Tally]:
    """One round for each pair of a call and an error; an error that is told leaves the store as it was."""
    calls = _calls(scenario, root)
    for name, lasting, words in failures():
        tally = Tally(f"{scenario.name}, {words}")
        wanted = partial(_is_one, ERRORS[name])
        for at in range(1, sum(map(wanted, calls)) + 1, every):
            _fail(scenario, root, tally, Count(at, getattr(errno, name), wanted, lasting, begun=True))
        yield tally


def _is_one(names: Sequence[str], call: Call) -> bool:
    return not names or call.name in names


def _fail(scenario: Scenario, root: Path, tally: Tally, count: Count) -> None:
    scenario.copy(root)
    ended = watch_process(root, lambda first: scenario.start(root, first), count)
    where = f"at call {count.at}, {_words(count.met)}"
    tally.counts["told"] += ended == run.FAILED
    if ended not in (run.OK, run.FAILED):
        tally.mixed(where, f"it ended with {ended}: {run.said(root)[-600:]}")
        return
    judge(scenario, root, tally, where)


def cut_power(scenario: Scenario, root: Path, every: int) -> Tally:
    """Every tree that a disk may hold when the power goes after each call."""
    tally = Tally(f"{scenario.name}, power cut after each call")
    chance = random.Random(f"{scenario.name} {SEED}")
    scenario.copy(root)
    recording = powercut.record_process(root, lambda first: scenario.start(root, first))
    for tree, where in dict(powercut.distinct(recording, every, chance)).values():
        shutil.rmtree(root)
        lay(tree, root)
        tally.counts["trees"] += 1
        judge(scenario, root, tally, where)
    return tally


def _words(call: Call | None) -> str:
    return "none" if call is None else f"{call.name} {call.path.rpartition('/nydus-agent/')[2]}"


if __name__ == "__main__":
    raise SystemExit(main())
