"""The one timer of a session."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import closing

import pytest

from agent.daemon.beat import TICK_S, Beat
from agent.daemon.turning import Loop
from tests.fakes.turning import here, on_time


@pytest.mark.parametrize(
    ("interval_s", "every_s"), [(0.25, 0.25), (0.05, 0.05), (0.3, 0.15), (1.0, 0.25), (60.0, 0.25)]
)
def test_an_interval_holds_a_whole_number_of_beats_none_longer_than_a_tick(interval_s: float, every_s: float) -> None:
    with closing(Loop()) as loop:
        beat = Beat(loop, interval_s, lambda: None)
    assert beat.every_s == pytest.approx(every_s)
    assert beat.every_s <= TICK_S


async def _times(interval_s: float, seconds: float, sooner: tuple[float, ...] = (0.0,)) -> list[float]:
    """When it beats within so many seconds, having been asked for a sooner one with these delays at the beginning."""
    began, seen = here().time(), list[float]()
    beat = Beat(here(), interval_s, lambda: seen.append(here().time() - began))
    for delay_s in sooner:
        beat.sooner(delay_s)
    await asyncio.sleep(seconds)
    beat.stop()
    assert here().idle
    count = len(seen)
    await asyncio.sleep(2 * interval_s)
    assert len(seen) == count
    return seen


def test_it_beats_until_it_is_stopped_and_never_with_the_same_gap() -> None:
    async def work() -> None:
        seen = await _times(0.2, 5.0)
        assert seen[0] < 0.02
        assert min(_gaps(seen)) >= 0.15
        assert max(_gaps(seen)) <= 0.25
        assert len({round(gap, 3) for gap in _gaps(seen)}) > 5

    on_time(work)


def _gaps(seen: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(seen)]


def test_the_next_beat_comes_sooner_and_never_later_for_having_been_asked_for() -> None:
    async def work() -> None:
        assert (await _times(0.2, 0.1, sooner=(0.15, 0.05, 5.0)))[0] == pytest.approx(0.05, abs=0.01)

    on_time(work)
