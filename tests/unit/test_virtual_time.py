"""Tests in virtual time: a busy machine makes nothing late there, and nothing is tried again."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from tests.fakes.event_loop import on_time, until

REAL = time.monotonic


def test_a_wrong_value_is_a_failure_at_once_also_where_the_machine_was_late() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)
        hold_up()
        assert len(done) == 3

    with pytest.raises(AssertionError):
        on_time(work)
    assert len(done) == 1


async def test_a_loop_that_the_machine_holds_up_is_not_late() -> None:
    called: list[float] = []
    began = time.monotonic()
    asyncio.get_running_loop().call_later(0.3, lambda: called.append(time.monotonic() - began))
    hold_up()
    await until(lambda: bool(called))
    assert 0.3 <= called[0] < 0.305


def test_waits_cost_less_than_they_last_and_the_clocks_agree_on_them() -> None:
    took: list[float] = []

    async def work() -> None:
        clocks: list[Callable[[], float]] = [time.time, time.monotonic, boot_clock]
        before = [clock() for clock in clocks]
        await asyncio.sleep(60)
        took.extend(clock() - began for clock, began in zip(clocks, before, strict=True))

    began = REAL()
    on_time(work)
    assert took == [pytest.approx(60, abs=0.05)] * 3
    assert REAL() - began < 45


def test_a_subject_that_is_late_by_itself_is_late_and_its_clock_is_real_again_afterwards() -> None:
    async def work() -> None:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.1, time.sleep, 0.4)
        await asyncio.sleep(0.2)
        assert 0.5 <= time.monotonic() - began < 0.51

    on_time(work)
    assert time.monotonic is REAL


async def test_what_comes_by_a_socket_comes_before_any_timer() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.send(b"x")
        found = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(one, 1), 0.000001)
        assert found == b"x"


def boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def hold_up() -> None:
    """The whole process, as a machine does that runs something else."""
    end = REAL() + 0.05
    while REAL() < end:
        pass
