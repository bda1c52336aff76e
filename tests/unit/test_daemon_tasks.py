"""What the daemon's tasks share: groups that end as a whole, the one timer of a session, waits for
descriptors.
"""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest

from agent.daemon.tasks import TICK_S, Ticker, readable, task_group
from tests.fakes.event_loop import daemons_tasks


async def sleeps(ended: list[str]) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        ended.append("cancelled")


async def fails() -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError("a bug")


class TestGroup:
    async def test_its_tasks_end_with_the_block(self) -> None:
        ended: list[str] = []
        async with task_group() as tasks:
            tasks.create_task(sleeps(ended), name="sleeper")
            await asyncio.sleep(0)
            assert daemons_tasks() == ["sleeper"]
        assert (daemons_tasks(), ended) == ([], ["cancelled"])

    async def test_what_a_task_raises_ends_the_others_and_the_block_and_is_told_bare(self) -> None:
        ended: list[str] = []

        async def work() -> None:
            async with task_group() as tasks:
                tasks.create_task(sleeps(ended), name="sleeper")
                tasks.create_task(fails(), name="failing")
                await asyncio.sleep(3600)

        with pytest.raises(ZeroDivisionError, match="a bug"):
            await work()
        assert ended == ["cancelled"]

    async def test_what_the_block_raises_is_told_bare_too(self) -> None:
        async def work() -> None:
            async with task_group() as outer:
                outer.create_task(sleeps([]), name="outer")
                async with task_group() as inner:
                    inner.create_task(sleeps([]), name="inner")
                    raise ZeroDivisionError("a bug")

        with pytest.raises(ZeroDivisionError, match="a bug"):
            await work()

    async def test_a_block_that_is_cancelled_ends_as_cancelled(self) -> None:
        async def block(ended: list[str]) -> None:
            async with task_group() as tasks:
                tasks.create_task(sleeps(ended), name="sleeper")
                await asyncio.sleep(3600)

        ended: list[str] = []
        task = asyncio.create_task(block(ended))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["cancelled"]


@pytest.mark.parametrize(
    ("interval_s", "every_s"), [(0.25, 0.25), (0.05, 0.05), (0.3, 0.15), (1.0, 0.25), (60.0, 0.25)]
)
def test_an_interval_holds_a_whole_number_of_ticks_none_longer_than_the_longest(
    interval_s: float, every_s: float
) -> None:
    ticker = Ticker(interval_s)
    assert ticker.every_s == pytest.approx(every_s)
    assert ticker.every_s <= TICK_S


async def _times(interval_s: float, seconds: float, sooner: tuple[float, ...] = (0.0,)) -> list[float]:
    """When it ticks within so many seconds, having been hastened by these delays at the beginning."""
    now = asyncio.get_running_loop().time
    began, seen, ticker = now(), list[float](), Ticker(interval_s)

    async def wait() -> None:
        while True:
            await ticker.tick()
            seen.append(now() - began)

    async with task_group() as tasks:
        tasks.create_task(wait(), name="waits")
        await asyncio.sleep(0)
        for delay_s in sooner:
            ticker.hasten(delay_s)
        await asyncio.sleep(seconds)
        ticker.stop()
        count = len(seen)
        await asyncio.sleep(2 * interval_s)
        assert len(seen) == count
    return seen


async def test_it_ticks_until_it_is_stopped_and_never_with_the_same_gap() -> None:
    seen = await _times(0.2, 5.0)
    assert seen[0] < 0.02
    assert min(_gaps(seen)) >= 0.15
    assert max(_gaps(seen)) <= 0.25
    assert len({round(gap, 3) for gap in _gaps(seen)}) > 5


def _gaps(seen: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(seen)]


async def test_the_next_tick_comes_sooner_and_never_later_for_having_been_hastened() -> None:
    assert (await _times(0.2, 0.1, sooner=(0.15, 0.05, 5.0)))[0] == pytest.approx(0.05, abs=0.01)


async def test_whoever_waits_is_woken_by_the_same_tick_and_one_that_gives_up_wakes_nobody_else() -> None:
    ticker = Ticker(0.2)
    waiting = [asyncio.create_task(ticker.tick()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [True, False, False]
    ticker.hasten(0)
    await asyncio.wait(waiting)
    ticker.stop()
    assert [task.cancelled() for task in waiting] == [True, False, False]


@pytest.mark.real_time
async def test_a_descriptor_is_waited_for_and_not_watched_any_more_afterwards() -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    waits = asyncio.create_task(readable(read))
    await asyncio.sleep(0.01)
    assert not waits.done()
    os.write(write, b"x")
    await waits
    assert asyncio.get_running_loop().remove_reader(read) is False
    given_up = asyncio.create_task(readable(write))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    os.close(read)
    os.close(write)
