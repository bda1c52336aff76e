"""Every system call that changes a file or makes a change last: killed right before it, and failed with each
error.

That includes each write of the journal, each act on a file, and what systemd writes down (its acts are calls
on the machine's file), so no boundary is left out.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.survival import run, warden
from tests.bench.survival.run import Child, Scenario
from tests.bench.survival.verdicts import TreeTally
from tests.bench.survival.warden import KILL, Call, watch

ERRORS = {
    "ENOSPC": ("write", "openat", "mkdir", "mkdirat", "link", "linkat", "rename", "renameat", "fallocate",
               "fsync",
               "fdatasync", "symlink", "symlinkat"),
    "EROFS": ("openat", "mkdir", "mkdirat", "link", "linkat", "rename", "renameat", "unlink", "unlinkat",
              "rmdir",
              "chmod", "fchmod", "fchown", "symlink", "symlinkat"),
    "EIO": (),  # any call
    "EMFILE": ("openat",),
}  # fmt: skip
"""error -> the calls that can end with it (their manual pages)."""
_LASTING = ("EROFS", "EIO")
"""From this call on every one fails: the file system was remounted read-only, the disk is gone."""


def failures() -> Iterator[tuple[str, bool, str]]:
    """(error, whether it lasts, both in words) of all ways to fail."""
    for name in ERRORS:
        for lasting in (False, True) if name in _LASTING else (False,):
            yield name, lasting, f"{name} {'from each call on' if lasting else 'once at each call'}"


@dataclass
class Count:
    """Numbers the calls of a run, and decides at the one that is meant."""

    at: int
    answer: int
    wanted: Callable[[Call], bool]
    lasting: bool = False
    begun: bool = False
    """Whether calls that only look count too; else they do from the journal's appearance on."""
    number: int = field(default=0, init=False)
    met: Call | None = field(default=None, init=False)

    def __call__(self, call: Call) -> int:
        self.begun = self.begun or (call.makes and "/open.jsonl" in call.path)
        if not self.wanted(call) or not (self.begun or call.makes):
            return (
                0  # what fails while it only looks is no writer's call: the plan then leaves that file alone
            )
        self.number += 1
        if self.number < self.at or (self.number > self.at and not self.lasting):
            return 0
        self.met = self.met or call
        return self.answer


def calls_of(scenario: Scenario, scratch: Path) -> list[Call]:
    """All calls of an undisturbed run, in order."""
    root = scenario.copy(scratch / "listed")
    return warden.calls_of(root, lambda first: Child(root, scenario.act, first=first))


def kill_before_each(scenario: Scenario, scratch: Path, every: int = 1) -> TreeTally:
    """One round for each call that changes something (every `every`th of them)."""
    tally = TreeTally(f"{scenario.name}, killed before each call")
    total = sum(map(_changes, calls_of(scenario, scratch)))
    for at in range(1, total + 1, every):
        root = scenario.copy(scratch / "round")
        count = Count(at, KILL, _changes)
        ended = watch(root, scenario.act, count)
        where = f"before call {at} of {total}, {_words(count.met, root)}"
        tally.counts["killed"] += ended == -9
        if ended != -9:
            tally.mixed(where, f"it was not killed, it ended with {ended}")
        elif tally.safe(root, where) and tally.recovered(root, where):
            tally.judge(scenario, root, where)
    return tally


def fail_each(scenario: Scenario, scratch: Path, every: int = 1) -> list[TreeTally]:
    """One round for each pair of a call and an error that it can end with; the change must put the node back
    itself.

    Where it says that it could not, `recover` must be able to, once the error is gone.
    """
    calls = calls_of(scenario, scratch)
    found = []
    for name, lasting, words in failures():
        tally = TreeTally(f"{scenario.name}, {words}")
        wanted = _ends_with(name)
        listed = Count(0, 0, wanted)
        for call in calls:
            listed(call)
        total = listed.number
        for at in range(1, total + 1, every * (3 if lasting else 1)):
            _fail(scenario, scratch, tally, Count(at, getattr(errno, name), wanted, lasting), total)
        found.append(tally)
    return found


def _fail(scenario: Scenario, scratch: Path, tally: TreeTally, count: Count, total: int) -> None:
    root = scenario.copy(scratch / "round")
    ended = watch(root, scenario.act, count)
    where = f"at call {count.at} of {total}, {_words(count.met, root)}"
    if ended not in (run.OK, run.FAILED):
        tally.mixed(where, f"it ended with {ended}: {run.said(root)[-600:]}")
        return
    tally.counts["told"] += ended == run.FAILED
    if not tally.safe(root, where):
        return
    if ended == run.FAILED and "NNA0402" in run.said(root):
        verdict, why = scenario.verdict(root)
        if verdict != "before":
            tally.mixed(where, f"it said that the node is as before: {why or verdict}")
            return
    if tally.recovered(root, where):
        tally.judge(scenario, root, where)


def _ends_with(error: str) -> Callable[[Call], bool]:
    names = ERRORS[error]
    opens = error in ("EMFILE", "EIO")

    def wanted(call: Call) -> bool:
        ours = ".machine" not in call.path
        return ours and (call.makes or opens) and (not names or call.name in names)

    return wanted


def _changes(call: Call) -> bool:
    return call.makes


def _words(call: Call | None, root: Path) -> str:
    return "none" if call is None else f"{call.name} {call.path.removeprefix(str(root))}"
