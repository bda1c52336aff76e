"""Tests that run beside each other are told as one run, none is lost, and what must be alone is."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runner import builds, groups, report
from tests.runner.side_by_side import SideBySide
from tests.runner.stages import DAEMON_TIMES, ROOT, STAGES, Command

MAKE_TEST = ("lint", "types", "unit", "contract", "package", "node")

_SPAN = """
import pathlib, time
def test_span():
    began = time.monotonic()
    time.sleep({seconds})
    pathlib.Path({out!r}).write_text(f"{{began}} {{time.monotonic()}}")
    {body}
"""
NODE_TESTS = sorted((ROOT / "tests/node").glob("test_*.py"))


def _command(
    place: Path,
    name: str,
    *,
    body: str = "",
    seconds: float = 0.0,
    alone: str = "",
    deadline_s: float = 600.0,
) -> Command:
    test, junit = place / f"test_{name}.py", place / "results" / f"test_{name}.xml"
    test.write_text(_SPAN.format(seconds=seconds, out=str(place / name), body=body))
    argv = (
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-c",
        "/dev/null",
        f"--rootdir={place}",
        f"--junitxml={junit}",
    )
    return Command((*argv, str(test)), junit, deadline_s, alone)


def _run(commands: Sequence[Command], width: int = 2) -> tuple[report.Counts, list[str]]:
    # A command that ignores SIGINT is killed after a minute of patience.
    beside = SideBySide({"PATH": os.environ["PATH"]}, width, deadline_s=1200)
    return beside.run(commands, "made up")


def _span(place: Path, name: str) -> tuple[float, float]:
    began, ended = (place / name).read_text().split()
    return float(began), float(ended)


def _overlap(place: Path, one: str, other: str) -> bool:
    (began, ended), (other_began, other_ended) = _span(place, one), _span(place, other)
    return began < other_ended and other_began < ended


def test_the_run_ends_with_one_line_of_pytests_form_for_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = _command(tmp_path, "bad", body="assert [] == ['a journal']")
    counts, reasons = _run([_command(tmp_path, "one"), bad, _command(tmp_path, "two", alone="two")])
    told = capfd.readouterr().out.splitlines()
    assert counts == report.Counts(passed=2, failed=1)
    assert reasons == [f"{' '.join(bad.argv)}: exit status 1"]
    closing = [line for line in told if re.search(r"(passed|failed).* in [\d.]+s", line)]
    assert len(closing) == 1
    assert re.fullmatch(r"=+ 1 failed, 2 passed in \d+\.\d\ds \(0:00:\d\d\) =+", closing[0])
    assert closing[0] == told[-1]
    assert "test_bad::test_span - AssertionError: assert [] == ['a journal']" in told[-2]


def test_what_must_be_alone_runs_after_the_others_and_beside_none_but_its_like(tmp_path: Path) -> None:
    words = {"lonely": "lonely", "other": "pair", "one": "", "two": ""}
    commands = [_command(tmp_path, name, seconds=1.0, alone=word) for name, word in words.items()]
    assert _run(commands)[0] == report.Counts(passed=4)
    assert not _overlap(tmp_path, "lonely", "other")
    for alone in ("lonely", "other"):
        assert _span(tmp_path, alone)[0] > max(_span(tmp_path, "one")[1], _span(tmp_path, "two")[1])


@pytest.mark.parametrize("word", ["", "pair"])
def test_two_of_a_kind_run_beside_each_other(tmp_path: Path, word: str) -> None:
    def meets(other: str) -> str:
        place = str(tmp_path)
        return f"while not pathlib.Path({place!r}, {other!r}).exists(): time.sleep(0.05)"

    pairs = (("a", "b"), ("b", "a"))
    commands = [
        _command(tmp_path, name, alone=word, body=meets(other), deadline_s=180.0) for name, other in pairs
    ]
    assert _run(commands)[0] == report.Counts(passed=2), "each waits for what the other writes"


@pytest.mark.parametrize(("width", "most"), [(1, 1), (2, 4)])
def test_what_counts_as_half_leaves_room_for_another_where_more_than_one_may_run(
    tmp_path: Path, width: int, most: int
) -> None:
    beside = f"""here = pathlib.Path({str(tmp_path)!r}, "here")
    here.mkdir(exist_ok=True)
    (here / "{{}}").touch()
    deadline = time.monotonic() + 60
    while {most} > 1 and len(list(here.iterdir())) < 4 and time.monotonic() < deadline: time.sleep(0.05)
    assert len(list(here.iterdir())) == {most}
    if {most} == 1: (here / "{{}}").unlink()"""
    commands = [
        replace(_command(tmp_path, name, body=beside.format(name, name), deadline_s=180.0), place=0.5)
        for name in ("a", "b", "c", "d")
    ]
    assert _run(commands, width)[0] == report.Counts(passed=4)


def test_a_stage_that_does_not_end_is_ended_and_red(tmp_path: Path) -> None:
    hangs = replace(_command(tmp_path, "hangs"), argv=("sleep", "600"))
    beside = SideBySide({"PATH": os.environ["PATH"]}, 1, deadline_s=1)
    assert beside.run([hangs], "made up")[1] == ["made up: not done after 1 s"]


def test_what_does_not_end_is_ended_and_red_and_the_others_count(tmp_path: Path) -> None:
    counts, reasons = _run(
        [_command(tmp_path, "hangs", seconds=600, deadline_s=2.0), _command(tmp_path, "one")]
    )
    assert counts.passed == 1
    assert [reason.rpartition(": ")[2] for reason in reasons] == ["exit status 124"]


NODE_TIERS = ("node", "test-survival", "test-dragonfly")


def test_every_file_of_node_tests_is_run_by_one_tier_and_those_with_a_rule_exist() -> None:
    found = [command.argv[-1] for tier in NODE_TIERS for command in STAGES[tier].commands()]
    paths = [str(path.relative_to(ROOT)) for path in NODE_TESTS]
    assert sorted(found) == sorted([DAEMON_TIMES, *paths])
    ruled = {*groups.ALONE, *groups.PAIR, *groups.DRAGONFLY, *groups.SURVIVAL, *groups.LONG, *groups.WAIT}
    assert ruled <= {path.stem for path in NODE_TESTS}


def test_ci_runs_every_tier_of_node_tests() -> None:
    assert f'TIERS="{" ".join(NODE_TIERS[1:])}"' in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize(
    ("stage", "directories"), [("unit", ("unit",)), ("contract", ("contract",)), ("package", ("package",))]
)
def test_every_file_of_a_stage_is_run_once(stage: str, directories: tuple[str, ...]) -> None:
    found = {path for directory in directories for path in (ROOT / "tests" / directory).rglob("test_*.py")}
    found.discard(ROOT / DAEMON_TIMES)  # that one runs alone, after the tests on nodes
    run = [path for command in STAGES[stage].commands() for path in _files(command.argv)]
    assert sorted(run) == sorted(found)
    results = [command.junit for command in STAGES[stage].commands()]
    assert len(set(results)) == len(results)


def _files(argv: Sequence[str]) -> set[Path]:
    """The test files that a command line names, or has in a directory that it names and does not leave
    out.
    """
    words = shlex.split(" ".join(argv).replace(";", " "))
    out = {ROOT / word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")}
    named = {ROOT / word for word in words if word.startswith("tests/") and word != "tests/in-root"}
    return {file for path in named for file in ([path] if path.is_file() else path.rglob("test_*.py"))} - out


def test_nothing_that_make_test_runs_sets_the_clock_of_the_machine() -> None:
    setters = re.compile(r"clock_settime|settimeofday\((?!None, None)|timedatectl|hwclock|\bdate -{1,2}s")
    found = {path for path in (ROOT / "tests").rglob("*.py") if setters.search(path.read_text())}
    assert found == {ROOT / "tests/clock/test_node.py", Path(__file__)}
    run = {path for name in MAKE_TEST for command in STAGES[name].commands() for path in _files(command.argv)}
    assert len(run) > 100
    assert not run & {ROOT / "tests/clock/test_node.py"}


def test_files_with_a_dfdaemon_are_a_tier_of_their_own_and_no_newcomer_waits_for_its_build() -> None:
    texts = {path.stem: path.read_text() for path in NODE_TESTS}
    uses = re.compile(r"parts\.dragonfly_shares|tests\.node\.dragonfly\b")
    assert {name for name, text in texts.items() if uses.search(text)} == set(groups.DRAGONFLY)
    assert set(groups.PAIR) <= set(groups.ALONE)
    for tier in NODE_TIERS:
        assert ("dfdaemon" in STAGES[tier].needs) == (tier == "test-dragonfly")
    assert not {name for stage in MAKE_TEST for name in STAGES[stage].needs} & set(builds.DRAGONFLY)


def test_what_every_node_waits_for_is_built_first_and_what_the_last_tests_need_last() -> None:
    ranks = [[_rank(name) for name in lane if name not in builds.ARM64] for lane in builds.LANES]
    assert ranks == [sorted(lane) for lane in ranks]
    assert builds.LANES[0][0] == "nydus", "the longest that nodes are made of"
    assert {name for lane in builds.LANES for name in lane if builds.niceness(name)} == set(builds.DRAGONFLY)


def _rank(name: str) -> int:
    return 0 if name in builds.NODE else 2 if name in builds.DRAGONFLY else 1


@pytest.mark.parametrize("stage", ["package", "contract", "node"])
def test_what_a_stage_needs_is_built(stage: str) -> None:
    assert set(STAGES[stage].needs) <= {name for lane in builds.LANES for name in lane}
