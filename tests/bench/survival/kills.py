"""SIGKILL at random moments of a change, of its recovery too, and what the node is after the next run."""

from __future__ import annotations

import os
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from agent import paths
from tests.bench.survival import run
from tests.bench.survival.run import Child, Scenario
from tests.bench.survival.stage import Stage
from tests.bench.survival.verdicts import TreeTally

_MARGIN = 1.05
_AGAIN = 0.4
"""Share of rounds in which the recovery is killed too."""
_WHOLE = 0.25
_WAYS = ("recover", "next change", "reboot")


def kill_at_random(scenario: Scenario, rounds: int, scratch: Path, seed: int) -> list[TreeTally]:
    """Kill `rounds` times; one tally for each way of recovery.

    Three rounds of four are spread evenly over the transaction (from the journal's appearance to the end),
    the others over the whole length. Both lengths are measured anew while it runs, because other programs use
    the machine too.
    """
    chance = random.Random(f"{scenario.name} {seed}")
    tallies = {way: TreeTally(f"{scenario.name}, killed at random, then {way}") for way in _WAYS}
    moments = [(number + chance.random()) / rounds for number in range(rounds)]
    chance.shuffle(moments)
    length = _length(scenario, scratch)
    for number, moment in enumerate(moments):
        if number % 40 == 39:
            length = _length(scenario, scratch)
        way = _WAYS[number % len(_WAYS)]
        aim = Aim(moment * _MARGIN, length, whole=chance.random() < _WHOLE)
        _round(scenario, scratch / "round", aim, way, tallies[way], chance)
    return list(tallies.values())


@dataclass(frozen=True)
class Length:
    """Seconds from the start to the journal's appearance, and from there to the end."""

    before_s: float
    transaction_s: float


@dataclass(frozen=True)
class Aim:
    """A moment: `part` of the transaction, or of the whole length."""

    part: float
    length: Length
    whole: bool

    def kill(self, child: Child, root: Path) -> int:
        """SIGKILL at that moment; the exit status of the child where it had ended before."""
        if self.whole:
            return child.kill_after(self.part * (self.length.before_s + self.length.transaction_s))
        _until_journal(root, child)
        return child.kill_after(self.part * self.length.transaction_s)

    def __str__(self) -> str:
        whole = self.length.transaction_s + (self.length.before_s if self.whole else 0)
        return f"killed after {self.part * whole * 1000:.1f} of {whole * 1000:.0f} ms"


def _until_journal(root: Path, child: Child) -> None:
    journal = f"{root}{paths.STATE_DIR}/journal/open.jsonl"
    end = time.monotonic() + 10
    while not os.path.exists(journal) and not child.ended() and time.monotonic() < end:
        time.sleep(0.0002)


def _length(scenario: Scenario, scratch: Path) -> Length:
    before, whole = [], []
    for _ in range(3):
        root = scenario.copy(scratch / "length")
        began = time.monotonic()
        child = Child(root, scenario.act)
        _until_journal(root, child)
        before.append(time.monotonic() - began)
        child.wait()
        whole.append(time.monotonic() - began)
    return Length(statistics.median(before), statistics.median(whole) - statistics.median(before))


def _round(
    scenario: Scenario, root: Path, aim: Aim, way: str, tally: TreeTally, chance: random.Random
) -> None:
    scenario.copy(root)
    where = str(aim)
    ended = aim.kill(Child(root, scenario.act), root)
    lines = _journal_lines(root)
    tally.counts["in the transaction"] += lines > 0
    tally.counts["killed"] += ended == -9
    if not tally.safe(root, where):
        return
    recover = _recover
    if way == "reboot":
        Stage(root).lose_power()
        recover = _recover_at_boot
    while lines and chance.random() < _AGAIN:
        cut = Child(root, recover).kill_after(chance.random() * aim.length.transaction_s)
        tally.counts["recovery killed"] += cut == -9
        lines = _journal_lines(root)
    if way == "next change":
        ended = Child(root, scenario.act).wait()
        if ended != run.OK:
            tally.mixed(where, f"the next change ended with {ended}: {run.said(root)[-600:]}")
            return
    elif not tally.recovered(root, where, recover):
        return
    if way == "reboot":
        Child(root, Stage.start_services).wait()
    if tally.judge(scenario, root, where) == "before" and way == "next change":
        tally.mixed(where, "the next change did not take place")


def _recover(stage: Stage) -> None:
    stage.recover()


def _recover_at_boot(stage: Stage) -> None:
    stage.recover(jobs=False)


def _journal_lines(root: Path) -> int:
    place = root / f"{paths.STATE_DIR}/journal/open.jsonl".lstrip("/")
    return place.read_bytes().count(b"\n") if place.exists() else 0
