"""What every implementation of the Journal port does."""

from __future__ import annotations

import abc
import select
import time

from agent.ports import Journal, JournalLine


class JournalWorld(abc.ABC):
    """The port under test, and the unit that it follows."""

    port: Journal

    @abc.abstractmethod
    def write(self, text: str) -> None:
        """The unit writes a line."""

    @abc.abstractmethod
    def flood(self) -> None:
        """The unit writes so much at once that the journal drops lines, and one line more after that."""

    @abc.abstractmethod
    def kill(self) -> None:
        """What reads for us ends."""

    def begin(self) -> None:
        """Start; what is written at once after that is read."""
        self.port.start()
        assert self.port.problem == ""
        self.write("begun")
        assert self.lines(1)[-1].text == "begun"

    def lines(self, count: int, within_s: float = 10.0) -> list[JournalLine]:
        """Wait for so many lines, by the descriptor alone."""
        found: list[JournalLine] = []
        end = time.monotonic() + within_s
        while len(found) < count and time.monotonic() < end:
            select.select([self.port.fileno()], [], [], 1.0)
            found += self.port.lines()
        return found


class JournalContract:
    """Run by a class that has a fixture `world`; the port was not started."""

    def test_it_is_not_followed_before_it_was_started(self, world: JournalWorld) -> None:
        assert world.port.problem != ""
        assert world.port.fileno() == -1
        assert world.port.lines() == ()

    def test_a_line_comes_as_it_was_written_and_with_its_time(self, world: JournalWorld) -> None:
        world.begin()
        before = time.monotonic()
        world.write("\x1b[1mpainted\x1b[0m, in two words")
        (line,) = world.lines(1)
        assert line.text == "\x1b[1mpainted\x1b[0m, in two words"
        assert line.dropped == 0
        assert before <= line.at <= time.monotonic()

    def test_lines_come_in_their_order_and_once(self, world: JournalWorld) -> None:
        world.begin()
        for number in range(5):
            world.write(f"line {number}")
        assert [line.text for line in world.lines(5)] == [f"line {number}" for number in range(5)]
        assert world.port.lines() == ()

    def test_what_the_journal_dropped_is_told(self, world: JournalWorld) -> None:
        world.begin()
        world.flood()
        end = time.monotonic() + 60
        found = list(world.port.lines())
        while not any(line.dropped for line in found) and time.monotonic() < end:
            found += world.lines(1, 1.0)
        assert sum(line.dropped for line in found) > 0

    def test_an_end_is_a_problem_until_it_is_started_anew(self, world: JournalWorld) -> None:
        world.begin()
        world.kill()
        assert select.select([world.port.fileno()], [], [], 60)[0]
        world.port.lines()
        assert world.port.problem != ""
        problem = world.port.problem
        world.port.close()
        assert world.port.problem.startswith(problem)
        assert world.port.fileno() == -1
        world.begin()
        world.write("again")
        assert [line.text for line in world.lines(1)] == ["again"]
