"""The one timer of a session."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest

from agent.daemon.beat import TICK_S, Beat
from agent.daemon.turning import Loop
from tests.fakes.turning import at_best


@pytest.mark.parametrize(
    ("interval_s", "every_s"), [(0.25, 0.25), (0.05, 0.05), (0.3, 0.15), (1.0, 0.25), (60.0, 0.25)]
)
def test_an_interval_holds_a_whole_number_of_beats_none_longer_than_a_tick(interval_s: float, every_s: float) -> None:
    with closing(Loop()) as loop:
        beat = Beat(loop, interval_s, lambda: None)
    assert beat.every_s == pytest.approx(every_s)
    assert beat.every_s <= TICK_S


def _times(interval_s: float, seconds: float, sooner: tuple[float, ...] = (0.0,)) -> list[float]:
    """When it beats within so many seconds, having been asked for a sooner one with these delays at the beginning."""

    with closing(Loop()) as loop:
        began, seen = loop.time(), list[float]()
        beat = Beat(loop, interval_s, lambda: seen.append(loop.time() - began))
        for delay_s in sooner:
            beat.sooner(delay_s)
        loop.call_later(seconds, loop.stop)
        loop.run()
        beat.stop()
        assert loop.idle
        count = len(seen)
        loop.call_later(2 * interval_s, loop.stop)
        loop.run()
        assert len(seen) == count
        return seen


def test_it_beats_until_it_is_stopped_and_never_with_the_same_gap() -> None:
    def is_good(seen: list[float]) -> bool:
        return seen[0] < 0.02 and min(_gaps(seen)) >= 0.015

    seen = at_best(lambda: _times(0.02, 0.5), is_good)
    assert is_good(seen)
    assert len({round(gap, 6) for gap in _gaps(seen)}) > 5


def _gaps(seen: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(seen)]


def test_the_next_beat_comes_sooner_and_never_later_for_having_been_asked_for() -> None:
    soon = pytest.approx(0.05, abs=0.04)
    assert at_best(lambda: _times(0.2, 0.1, sooner=(0.15, 0.05, 5.0))[0], lambda first: first == soon) == soon
