"""Only a missed time is tried again, and each time that it was is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests import time_bounds
from tests.runner import report
from tests.time_bounds import MissedTimeError, mostly, repeated, within


@pytest.fixture(autouse=True)
def counted() -> Iterable[None]:
    """These repeats are no real ones."""
    yield
    time_bounds.missed.clear()


def times(*found: float) -> Callable[[], float]:
    each = iter(found)
    return lambda: next(each)


def test_a_missed_time_is_tried_again_and_counted() -> None:
    take = times(3.0, 2.0, 0.5)
    assert repeated(lambda: within(take(), 1.0, "it")) == 0.5
    assert time_bounds.missed == ["it: 3, and must be below 1", "it: 2, and must be below 1"]


def test_a_time_that_is_always_missed_fails() -> None:
    take = times(3.0, 2.0, 1.0, 0.5)
    with pytest.raises(MissedTimeError, match="it: 1, and must be below 1"):
        repeated(lambda: within(take(), 1.0, "it"))


def test_a_wrong_value_is_not_tried_again() -> None:
    take = times(3.0, 2.0)

    def attempt() -> None:
        assert take() == 2.0

    with pytest.raises(AssertionError):
        repeated(attempt)
    assert take() == 2.0
    with pytest.raises(AssertionError, match="a value"):
        mostly(wrong, 1.0, "it")


def wrong() -> float:
    raise AssertionError("a value")


def test_eighteen_of_twenty_are_enough_and_seventeen_are_not() -> None:
    assert len(mostly(times(2.0, *[0.5] * 10, 2.0, *[0.5] * 8), 1.0, "it")) == 18
    assert len(time_bounds.missed) == 2
    with pytest.raises(MissedTimeError, match="3 of 18 attempts"):
        mostly(times(2.0, 2.0, *[0.5] * 15, 2.0), 1.0, "it")


def test_one_good_try_among_bad_ones_is_not_enough() -> None:
    with pytest.raises(MissedTimeError):
        mostly(times(0.5, 2.0, 2.0, 2.0), 1.0, "it")


def test_the_end_of_a_run_says_how_often_which_tests_have_tried_again(tmp_path: Path) -> None:
    case = '<testcase classname="tests.unit.test_a" name="test_b" time="1">{}</testcase>'
    one = f'<property name="{time_bounds.REPEATED}" value="it: 3"/>'
    (tmp_path / "a.xml").write_text(
        f"<testsuite>{case.format(f'<properties>{one * 2}</properties>')}</testsuite>"
    )
    (tmp_path / "b.xml").write_text(f"<testsuite>{case.format('')}</testsuite>")
    files = sorted(tmp_path.glob("*.xml"))
    assert report.repeats(files) == "time bounds repeated: 2 in 1 tests (test_a::test_b 2)"
    assert report.repeats(files[1:]) == "time bounds repeated: 0 in 0 tests"
