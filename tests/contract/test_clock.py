"""Clock: the contract on the fake and on the node's clock."""

from __future__ import annotations

import pytest

from agent.node.machine import SystemClock
from agent.ports import Clock
from tests.fakes.clock import FakeClock


class ClockContract:
    """Run by a class that has a fixture `clock`."""

    def test_sleeping_moves_both_clocks_on(self, clock: Clock) -> None:
        now, monotonic = clock.now(), clock.monotonic()
        clock.sleep(0.05)
        assert clock.monotonic() - monotonic >= 0.049
        assert clock.now() - now >= 0.04

    def test_a_sleep_that_is_over_already_returns_at_once(self, clock: Clock) -> None:
        def took() -> float:
            before = clock.monotonic()
            clock.sleep(-1)
            clock.sleep(0)
            return clock.monotonic() - before

        # The shortest: between any two lines a busy machine may give the core to others.
        assert 0 <= min(took() for _ in range(50)) < 0.05

    def test_a_moment_shows_all_clocks_and_which_boot_this_is(self, clock: Clock) -> None:
        first = clock.moment()
        clock.sleep(0.05)
        second = clock.moment()
        assert first.boot == second.boot != ""
        assert second.boottime - first.boottime >= 0.049
        assert second.monotonic - first.monotonic >= 0.049
        assert second.now - first.now >= 0.04
        assert first.up_s is not None
        assert first.up_s <= first.boottime

    def test_now_is_a_date_of_our_time(self, clock: Clock) -> None:
        assert clock.now() > 1_700_000_000


class TestFake(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return FakeClock()


class TestSystem(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()
