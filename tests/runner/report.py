"""What a run of the stages says: a header per stage, a table at the end, and one closing line with all
counts.
"""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.time_bounds import REPEATED


@dataclass(frozen=True)
class Counts:
    """Tests of one or more junit files. `skipped` holds expected failures too."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


def read_junit(path: Path) -> Counts:
    """The counts that pytest wrote; none where it did not get that far."""
    if not path.is_file():
        return Counts()
    total = Counts()
    for suite in ET.parse(path).getroot().iter("testsuite"):
        tests, skipped = int(suite.get("tests", "0")), int(suite.get("skipped", "0"))
        failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        total += Counts(max(0, tests - failed - skipped), failed, skipped)
    return total


def read_tests(paths: Sequence[Path]) -> list[tuple[float, str, str]]:
    """Each test of some junit files: seconds with set-up and teardown, its name, and, where it failed, the
    reason.
    """
    return [test for path in filter(Path.is_file, paths) for test in _tests(ET.parse(path).getroot())]


def repeats(paths: Sequence[Path]) -> str:
    """How often tests have tried a time bound again because the machine missed it, and which."""
    found: dict[str, int] = {}
    for path in filter(Path.is_file, paths):
        for case in ET.parse(path).getroot().iter("testcase"):
            count = sum(part.get("name") == REPEATED for part in case.iter("property"))
            if count:
                name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
                found[name] = found.get(name, 0) + count
    names = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return f"time bounds repeated: {sum(found.values())} in {len(found)} tests" + (
        f" ({names})" if names else ""
    )


def failures(junit: str) -> str:
    """Of what pytest wrote into a junit file: each test that failed and the first line of why, all in one
    line.
    """
    wrong = [f"{name} - {reason}" for _, name, reason in _tests(ET.fromstring(junit)) if reason]
    return f"{len(wrong)} failed: {'; '.join(wrong)}"


def _tests(root: ET.Element) -> Iterator[tuple[float, str, str]]:
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        wrong = [part.get("message", "") for part in case if part.tag in ("failure", "error")]
        reason = " / ".join(message.partition("\n")[0] or "failed" for message in wrong)
        yield float(case.get("time", "0")), name, reason


@dataclass(frozen=True)
class Outcome:
    """How one stage ended; `reasons` is empty where it is fine."""

    stage: str
    counts: Counts
    elapsed_s: float
    reasons: tuple[str, ...] = ()


def clock(seconds: float) -> str:
    """Minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def pytest_line(counts: Counts, seconds: float) -> str:
    """The line with which pytest closes a run, for several runs that are told as one."""
    numbers = ((counts.failed, "failed"), (counts.passed, "passed"), (counts.skipped, "skipped"))
    told = ", ".join(f"{number} {what}" for number, what in numbers if number) or "no tests ran"
    return f" {told} in {seconds:.2f}s ({datetime.timedelta(seconds=int(seconds))}) ".center(100, "=")


def table(outcomes: list[Outcome], elapsed_s: float) -> str:
    """One line per stage, and the reasons of those that failed."""
    lines = [f"{'stage':<18}{'result':<9}{'passed':>7}{'failed':>7}{'skipped':>8}{'time':>8}"]
    for outcome in outcomes:
        counts, result = outcome.counts, "FAILED" if outcome.reasons else "ok"
        numbers = f"{counts.passed:>7}{counts.failed:>7}{counts.skipped:>8}"
        lines.append(f"{outcome.stage:<18}{result:<9}{numbers}{clock(outcome.elapsed_s):>8}")
        lines += [f"    {reason}" for reason in outcome.reasons]
    lines.append(f"{'all':<49}{clock(elapsed_s):>8}")
    return "\n".join(lines)


def closing_line(outcomes: list[Outcome]) -> str:
    """The sum of all stages, as the last line of a run."""
    total = sum((outcome.counts for outcome in outcomes), Counts())
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    return f"tests: {total.passed} passed, {total.failed} failed{skipped}"
