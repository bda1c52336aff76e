"""The loop itself: whom it calls, when, and whom not any more."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.daemon.turning import Loop
from tests.time_bounds import mostly


@pytest.fixture
def loop() -> Iterator[Loop]:
    with closing(Loop()) as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def run_for(loop: Loop, seconds: float) -> None:
    loop.call_later(seconds, loop.stop)
    loop.run()


class TestTimers:
    def test_they_are_called_in_the_order_of_their_times_and_of_their_making(self, loop: Loop) -> None:
        called: list[str] = []
        when = loop.time() + 0.02
        loop.call_at(when + 0.01, lambda: called.append("late"))
        loop.call_at(when, lambda: called.append("first"))
        loop.call_at(when, lambda: called.append("second"))
        loop.call_at(0.0, lambda: called.append("past"))
        run_for(loop, 0.05)
        assert called == ["past", "first", "second", "late"]
        assert loop.idle

    def test_none_is_early_and_a_loop_with_nothing_else_to_do_is_hardly_late(self, loop: Loop) -> None:
        def lateness() -> list[float]:
            late: list[float] = []
            for number in range(1, 40):
                when = loop.time() + 0.0037 * number
                loop.call_at(when, lambda when=when: late.append(loop.time() - when))  # type: ignore[misc]  # the default binds it
            run_for(loop, 0.2)
            assert len(late) == 39
            assert min(late) >= 0.0
            return sorted(late)

        mostly(lambda: lateness()[19], 0.02, "seconds late, of the middle one of 39 timers")

    def test_a_cancelled_one_is_not_called_also_where_it_is_cancelled_in_the_turn_in_which_it_is_due(
        self, loop: Loop
    ) -> None:
        called: list[str] = []
        when = loop.time() + 0.01
        loop.call_at(when, lambda: second.cancel())
        second = loop.call_at(when, lambda: called.append("second"))
        third = loop.call_later(0.005, lambda: called.append("third"))
        third.cancel()
        assert not loop.idle
        run_for(loop, 0.03)
        third.cancel()  # it is over: harmless
        assert called == []
        assert loop.idle

    def test_a_cancelled_one_wakes_nobody(self, loop: Loop) -> None:
        loop.call_later(0.01, lambda: None).cancel()
        loop.call_later(60.0, lambda: None)
        left_ms = loop.left_ms()
        assert left_ms is not None
        assert left_ms > 59_000

    def test_what_is_due_at_once_again_and_again_keeps_nobody_waiting(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = pair
        turns = 0

        def again() -> None:
            nonlocal turns
            turns += 1
            loop.call_later(0, again)

        again()
        loop.add_reader(one.fileno(), loop.stop)
        other.send(b"x")
        loop.run()
        assert turns == 2, "one for each turn"
        loop.remove_reader(one.fileno())


class TestDescriptors:
    def test_what_can_be_read_or_written_is_told_in_each_turn_until_it_is_not_asked_for(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = pair
        called: list[str] = []
        loop.add_reader(one.fileno(), lambda: called.append("reads"))
        loop.turn(0)
        assert called == []
        other.send(b"x")
        loop.turn(0)
        loop.add_writer(one.fileno(), lambda: called.append("writes"))
        loop.turn(0)
        loop.remove_reader(one.fileno())
        loop.turn(0)
        loop.remove_writer(one.fileno())
        loop.turn(0)
        loop.remove_reader(one.fileno())
        loop.remove_writer(one.fileno())  # both are over: harmless
        assert called == ["reads", "reads", "writes", "writes"]
        assert loop.idle

    def test_another_action_takes_the_place_of_the_former_one(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = pair
        called: list[str] = []
        loop.add_reader(one.fileno(), lambda: called.append("former"))
        loop.add_reader(one.fileno(), lambda: called.append("present"))
        other.send(b"x")
        loop.turn(0)
        loop.remove_reader(one.fileno())
        assert called == ["present"]

    @pytest.mark.parametrize("first", [0, 1])
    def test_whom_another_one_removes_in_the_same_turn_is_not_called(self, loop: Loop, first: int) -> None:
        both, called = [socket.socketpair(), socket.socketpair()], list[int]()

        def taken(number: int) -> None:
            called.append(number)
            for one, _ in both:
                loop.remove_reader(one.fileno())

        for number in (first, 1 - first):
            loop.add_reader(both[number][0].fileno(), lambda number=number: taken(number))  # type: ignore[misc]  # the default binds it
            both[number][1].send(b"x")
        loop.turn(0)
        loop.turn(0)
        assert len(called) == 1
        for one, other in both:
            one.close()
            other.close()

    def test_who_comes_to_the_number_of_a_closed_one_in_the_same_turn_is_not_taken_for_it(self, loop: Loop) -> None:
        both, called = [socket.socketpair(), socket.socketpair()], list[str]()
        made: list[socket.socket] = []

        def exchange(mine: int) -> None:
            """The other one's descriptor is closed, and a new socket gets its number."""
            called.append("ready")
            other = both[1 - mine][0]
            number = other.fileno()
            loop.remove_reader(number)
            other.close()
            made.extend(socket.socketpair())
            assert made[0].fileno() == number
            loop.add_reader(number, lambda: called.append("newcomer"))
            loop.remove_reader(both[mine][0].fileno())

        for mine in range(2):
            loop.add_reader(both[mine][0].fileno(), lambda mine=mine: exchange(mine))  # type: ignore[misc]  # the default binds it
            both[mine][1].send(b"x")
        loop.turn(0)
        assert called == ["ready"]
        loop.turn(0)
        assert called == ["ready"]
        made[1].send(b"x")
        loop.turn(0)
        assert called == ["ready", "newcomer"]
        loop.remove_reader(made[0].fileno())
        for each in (*both[0], *both[1], *made):
            each.close()

    def test_a_hang_up_is_told_to_who_reads_and_to_who_writes(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = pair
        other.close()
        called: list[str] = []
        loop.add_reader(one.fileno(), lambda: called.append("reads"))
        loop.turn(0)
        loop.remove_reader(one.fileno())
        loop.add_writer(one.fileno(), lambda: called.append("writes"))
        loop.turn(0)
        loop.remove_writer(one.fileno())
        assert called == ["reads", "writes"]

    def test_a_descriptor_that_is_closed_while_somebody_waits_for_it_is_a_bug_and_no_busy_loop(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        number = pair[0].fileno()
        loop.add_reader(number, lambda: None)
        pair[0].close()
        with pytest.raises(RuntimeError, match=f"descriptor {number} was closed"):
            loop.run()
        loop.remove_reader(number)


class TestOthers:
    def test_another_thread_wakes_a_loop_that_sleeps_and_the_work_is_done_in_the_loops_own(self, loop: Loop) -> None:
        threads: list[threading.Thread] = []

        def done() -> None:
            threads.append(threading.current_thread())
            if len(threads) == 3:
                loop.stop()

        def hand() -> None:
            for _ in range(3):
                loop.call_soon_threadsafe(done)

        threading.Timer(0.02, hand).start()
        loop.call_later(60, loop.stop)
        started = time.monotonic()
        loop.run()
        assert time.monotonic() - started < 50
        assert threads == [threading.main_thread()] * 3

    def test_a_thread_that_answers_a_loop_which_is_closed_harms_nobody(self) -> None:
        called: list[int] = []
        with closing(Loop()) as loop:
            pass
        read, write = os.pipe2(os.O_NONBLOCK)  # the numbers of the loop's own pipe, perhaps
        loop.call_soon_threadsafe(lambda: called.append(1))
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
        os.close(read)
        os.close(write)
        assert called == []

    def test_a_signal_wakes_it_and_is_told_in_its_own_turn(self, loop: Loop) -> None:
        called: list[str] = []

        def told() -> None:
            called.append("told")
            loop.stop()

        loop.on_signal(signal.SIGHUP, told)
        loop.call_later(0.02, lambda: os.kill(os.getpid(), signal.SIGHUP))
        loop.call_later(0.02, lambda: called.append("the same turn"))
        loop.call_later(10, loop.stop)
        loop.run()
        assert called == ["the same turn", "told"]

    def test_after_the_end_signals_do_what_they_did_before(self) -> None:
        with closing(Loop()) as loop:
            loop.on_signal(signal.SIGHUP, lambda: None)
            loop.on_signal(signal.SIGINT, lambda: None)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1

    def test_a_signal_that_is_none_of_the_loops_neither_ends_its_sleep_nor_it(self, loop: Loop) -> None:
        seen: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
        loop.on_signal(signal.SIGHUP, lambda: None)
        try:
            threading.Timer(0.03, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
            started = time.monotonic()
            run_for(loop, 0.1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert time.monotonic() - started >= 0.1
        assert seen == [signal.SIGUSR1]


class TestTheRun:
    def test_a_bug_in_a_callback_ends_it_and_is_not_lost(self, loop: Loop) -> None:
        def bug() -> None:
            raise ZeroDivisionError("a bug")

        loop.call_later(0, bug)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            loop.run()

    def test_a_stop_lets_the_turn_end_and_no_other_begin(self, loop: Loop) -> None:
        called: list[str] = []
        when = loop.time()
        loop.call_at(when, loop.stop)
        loop.call_at(when, lambda: called.append("this turn"))
        loop.call_at(when, lambda: loop.call_later(0, lambda: called.append("the next one")))
        loop.run()
        assert called == ["this turn"]

    def test_it_costs_no_descriptor_while_it_turns(self, loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
        before = len(os.listdir("/proc/self/fd"))
        loop.add_reader(pair[0].fileno(), lambda: pair[0].recv(1))
        pair[1].send(b"x")
        run_for(loop, 0.02)
        loop.remove_reader(pair[0].fileno())
        assert len(os.listdir("/proc/self/fd")) == before
