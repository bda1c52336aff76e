"""Alarms: the contract on the fake (on systemd itself: tests/contract/node), and a place without systemd."""

from __future__ import annotations

import pytest

from agent.errors import SystemdError
from agent.ports import Alarm
from agent.system.systemd import SystemdAlarms
from tests.contract.alarms import NAME, AlarmsContract, AlarmsWorld
from tests.fakes.alarms import FakeAlarms
from tests.fakes.clock import FakeClock


class _FakeWorld(AlarmsWorld):
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.port = self.fake = FakeAlarms(self.clock)
        self.left: list[str] = []

    def alarm(self, word: str, *, after_s: float, fails: int = 0, tries: int = 1) -> Alarm:
        return Alarm(NAME, "a test", (word,), after_s, 10, tries)

    def words(self) -> tuple[str, ...]:
        return tuple(self.left)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.left += [alarm.argv[0] for alarm in self.fake.due()]


class TestFake(AlarmsContract):
    @pytest.fixture
    def world(self) -> AlarmsWorld:
        return _FakeWorld()


def test_where_no_systemd_runs_nothing_is_promised() -> None:
    alarms = SystemdAlarms()  # the build root has no systemd as PID 1 and no bus
    with pytest.raises(SystemdError) as caught:
        alarms.set(Alarm(NAME, "a test", ("/bin/true",), 10, 10))
    assert caught.value.code == "NNA0501"
    with pytest.raises(SystemdError):
        alarms.waits(NAME)
