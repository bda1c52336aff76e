"""What every implementation of the Alarms port does."""

from __future__ import annotations

import abc

from agent.ports import Alarm, Alarms

NAME = "alarm-test"


class AlarmsWorld(abc.ABC):
    """The port under test, and a program that leaves a word each time it runs."""

    port: Alarms

    @abc.abstractmethod
    def alarm(self, word: str, *, after_s: float, fails: int = 0, tries: int = 1) -> Alarm:
        """An alarm that leaves `word`; its first `fails` runs end badly."""

    @abc.abstractmethod
    def words(self) -> tuple[str, ...]:
        """What was left so far."""

    @abc.abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Wait."""


class AlarmsContract:
    """Run by a class that has a fixture `world`."""

    def test_an_alarm_goes_off_once_at_its_time(self, world: AlarmsWorld) -> None:
        world.port.set(world.alarm("rang", after_s=2))
        assert world.port.waits(NAME)
        world.pass_time(1)
        assert world.words() == ()
        assert world.port.waits(NAME)
        world.pass_time(3)
        assert world.words() == ("rang",)
        assert not world.port.waits(NAME)
        world.pass_time(2)
        assert world.words() == ("rang",)

    def test_a_cancelled_alarm_does_not_go_off(self, world: AlarmsWorld) -> None:
        world.port.set(world.alarm("rang", after_s=1))
        world.port.cancel(NAME)
        assert not world.port.waits(NAME)
        world.pass_time(3)
        assert world.words() == ()

    def test_there_is_nothing_to_cancel_where_none_is_set(self, world: AlarmsWorld) -> None:
        world.port.cancel(NAME)
        world.port.cancel(NAME)
        assert not world.port.waits(NAME)

    def test_a_second_alarm_of_the_same_name_takes_the_place_of_the_first(self, world: AlarmsWorld) -> None:
        world.port.set(world.alarm("first", after_s=1))
        world.port.set(world.alarm("second", after_s=2))
        world.pass_time(4)
        assert world.words() == ("second",)
        world.port.set(world.alarm("third", after_s=0.1))
        world.pass_time(2)
        assert world.words() == ("second", "third")
