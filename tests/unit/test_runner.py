"""A run of the tests is green only when every test ran and passed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.runner import __main__ as runner
from tests.runner import report
from tests.runner.stages import STAGES, Command

_TEST = """
import pytest
def test_fine(): assert True
def test_other(): {body}
"""


def _run(tmp_path: Path, body: str) -> tuple[report.Counts, list[str]]:
    test, junit = tmp_path / "test_it.py", tmp_path / "it.xml"
    test.write_text(_TEST.format(body=body))
    argv = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        "/dev/null",
        f"--rootdir={tmp_path}",
        f"--junitxml={junit}",
    )
    return runner.run_commands(
        (Command((*argv, str(test)), junit, deadline_s=60),), {"PATH": "/usr/bin:/bin"}
    )


def test_a_run_in_which_all_passed_is_green(tmp_path: Path) -> None:
    assert _run(tmp_path, "assert True") == (report.Counts(passed=2), [])


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("assert False", report.Counts(passed=1, failed=1)),
        ("pytest." + "skip('no root')", report.Counts(passed=1, skipped=1)),
        ("pytest." + "xfail('known')", report.Counts(passed=1, skipped=1)),
    ],
)
def test_a_failed_a_skipped_and_an_excused_test_each_turn_a_run_red(
    tmp_path: Path, body: str, counts: report.Counts
) -> None:
    found, reasons = _run(tmp_path, body)
    assert found == counts
    assert reasons != []


def test_of_a_run_within_a_test_each_failure_is_told_with_its_reason_in_one_line(tmp_path: Path) -> None:
    broken = (
        "assert [1] == [2], 'what it had\\nand more'\n@pytest.fixture\ndef world(): raise OSError('no room')"
    )
    _run(tmp_path, f"{broken}\ndef test_unmade(world): pass")
    told = report.failures((tmp_path / "it.xml").read_text())
    other, unmade = told.removeprefix("2 failed: ").split("; ")
    assert other == "test_it::test_other - AssertionError: what it had"
    assert unmade.startswith("test_it::test_unmade - failed on setup with")
    assert "no room" in unmade


def test_a_command_that_hangs_is_ended_and_red(tmp_path: Path) -> None:
    _, reasons = runner.run_commands((Command(("sleep", "60"), deadline_s=0.2),), {"PATH": "/usr/bin:/bin"})
    assert reasons == ["sleep 60: exit status 124"]


def test_the_last_line_sums_all_stages() -> None:
    outcomes = [
        report.Outcome("unit", report.Counts(passed=40), 1.0),
        report.Outcome("node", report.Counts(passed=2, failed=1), 61.0, ("pytest: exit status 1",)),
    ]
    assert re.fullmatch(r"tests: 42 passed, 1 failed", report.closing_line(outcomes))
    assert "pytest: exit status 1" in report.table(outcomes, 62.0)


def test_every_stage_says_what_it_shows() -> None:
    assert [stage.name for stage in STAGES.values() if not stage.what] == []
