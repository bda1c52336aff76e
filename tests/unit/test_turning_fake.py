"""Tests that hold their subject to times are held to them only while their own loop is on time."""

from __future__ import annotations

import socket
import time

import pytest

from tests.fakes.turning import at_best, on_time


def test_work_that_failed_while_its_loop_was_held_up_is_done_again_and_what_it_left_open_fails_nothing() -> None:
    done: list[int] = []

    async def work() -> None:
        left = socket.socket()
        done.append(left.fileno())
        if len(done) < 3:
            _hold_up()
        assert len(done) == 3
        left.close()

    on_time(work)
    assert len(done) == 3


def test_a_bug_is_no_matter_of_time() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)
        _hold_up()
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        on_time(work)
    assert len(done) == 1


def test_a_figure_is_the_first_good_one_and_one_that_is_never_good_is_seen() -> None:
    tries = iter(range(100))
    assert at_best(lambda: next(tries), lambda found: found == 7) == 7
    assert at_best(lambda: next(tries), lambda found: found < 0) == 27


def _hold_up() -> None:
    time.sleep(0.05)
