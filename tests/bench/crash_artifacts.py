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
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError
from tests.bench.report import Goal, publish, quick
from tests.bench.survival import artifacts, powercut, run
from tests.bench.survival.artifacts import Scenario
from tests.bench.survival.boundaries import ERRORS, LASTING, Count
from tests.bench.survival.disk import lay
from tests.bench.survival.install_command import Prepared
from tests.bench.survival.tally import Tally
from tests.bench.survival.warden import KILL, Call, watch_process

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
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        tallies = list(rounds(QUICK if small else FULL, Path(scratch)))
    for tally in tallies:
        for line in tally.story():
            print(line, flush=True)
    print(f"{sum(tally.counts['killed'] for tally in tallies)} kills, {time.monotonic() - began:.0f} s")
    bad = sum(tally.bad for tally in tallies)
    goals = [Goal("stores that are neither before nor after", bad, 0, "stores")]
    return publish("crash-artifacts", METHOD, [tally.row() for tally in tallies], quick=small, goals=goals)


def rounds(extent: Extent, scratch: Path) -> Iterator[Tally]:
    """All rounds of all acts."""
    for name in artifacts.NAMES:
        for size in (LARGE, SMALL):
            place = scratch / f"{name}.{size.length}"
            place.mkdir()
            scenario = artifacts.prepare(name, size, place)
            if size is LARGE:
                yield kill_at_random(scenario, extent.random, place / "round")
                continue
            yield kill_before_each(scenario, place / "round")
            yield from fail_each(scenario, place / "round", extent.failed)
            yield cut_power(scenario, place / "round", extent.cut)
    yield kill_command(Prepared(LARGE, scratch / "command"), extent.commands, scratch / "command" / "round")


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


def kill_at_random(scenario: Scenario, count: int, root: Path) -> Tally:
    """Spread evenly over the act's length, which is measured anew now and then: others use the machine too."""
    tally = Tally(f"{scenario.name}, killed at random")
    chance = random.Random(f"{scenario.name} {SEED}")
    length = 0.0
    for number in range(_TRIES * count):
        if tally.counts["killed"] == count:
            break
        if number % 25 == 0:
            length = _length(scenario, root)
        moment = chance.random() * length
        scenario.copy(root)
        if scenario.start(root).kill_after(moment) == -9:  # else it was done before
            tally.counts["killed"] += 1
            judge(scenario, root, tally, f"killed after {moment * 1000:.1f} of {length * 1000:.0f} ms")
    return tally


def kill_command(prepared: Prepared, count: int, root: Path) -> Tally:
    """The whole command killed at random, from its start on; what it has started lives on as long as it likes."""
    scenario = prepared.scenario
    tally = Tally(f"{scenario.name}, the command killed at random")
    chance = random.Random(f"{scenario.name} {SEED}")
    scenario.copy(root)
    began = time.monotonic()
    prepared.start(root).finish()
    length = time.monotonic() - began
    for _ in range(_TRIES * count):
        if tally.counts["killed"] == count:
            break
        scenario.copy(root)
        moment = chance.random() * length
        if prepared.start(root).kill_after(moment) == -9:
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
    found: list[Call] = []

    def note(call: Call) -> int:
        found.append(call)
        return 0

    scenario.copy(root)
    ended = watch_process(root, lambda first: scenario.start(root, first), note)
    assert ended == run.OK, run.said(root)
    return found


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
    for name, names in ERRORS.items():
        for lasting in (False, True) if name in LASTING else (False,):
            tally = Tally(f"{scenario.name}, {name} {'from each call on' if lasting else 'once at each call'}")
            meant = [call for call in calls if not names or call.name in names]
            for at in range(1, len(meant) + 1, every):
                count = Count(at, getattr(errno, name), lambda call: not names or call.name in names, lasting)  # noqa: B023
                count.begun = True  # calls that only look are failed too
                _fail(scenario, root, tally, count)
            yield tally


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
