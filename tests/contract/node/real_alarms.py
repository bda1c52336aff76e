"""The Alarms contract on systemd itself. Runs inside a booted test node (tests/node/test_contracts.py)."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ports import Alarm
from agent.system.systemd import SystemdAlarms
from tests.contract.alarms import NAME, AlarmsContract, AlarmsWorld

_LEFT = Path("/run/alarm-words")
_RUNS = Path("/run/alarm-runs")


class _SystemdWorld(AlarmsWorld):
    def __init__(self) -> None:
        self.port = SystemdAlarms()
        self.forget()

    def forget(self) -> None:
        self.port.cancel(NAME)
        subprocess.run(["systemctl", "reset-failed"], check=True)
        for path in (_LEFT, _RUNS):
            path.unlink(missing_ok=True)

    def alarm(self, word: str, *, after_s: float, fails: int = 0, tries: int = 1) -> Alarm:
        script = f'echo "$0" >> {_LEFT}; echo x >> {_RUNS}; test $(wc -l < {_RUNS}) -gt {fails}'
        return Alarm(NAME, "a test", ("/bin/sh", "-c", script, word), after_s, 10, tries, 0.2)

    def words(self) -> tuple[str, ...]:
        return tuple(_LEFT.read_text().split()) if _LEFT.exists() else ()

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def world() -> Iterator[_SystemdWorld]:
    made = _SystemdWorld()
    yield made
    made.forget()


class TestSystemd(AlarmsContract):
    pass


def test_an_alarm_that_ends_badly_is_tried_again_and_not_for_ever(world: _SystemdWorld) -> None:
    world.port.set(world.alarm("again", after_s=0.1, fails=2, tries=4))
    world.pass_time(4)
    assert world.words() == ("again",) * 3
    world.forget()
    world.port.set(world.alarm("again", after_s=0.1, fails=99, tries=3))
    world.pass_time(4)
    assert world.words() == ("again",) * 3


def test_an_alarm_that_failed_does_not_keep_its_name(world: _SystemdWorld) -> None:
    world.port.set(world.alarm("bad", after_s=0.1, fails=99))
    world.pass_time(2)
    assert subprocess.run(["systemctl", "is-failed", "--quiet", NAME], check=False).returncode == 0
    world.port.set(world.alarm("good", after_s=0.1))
    world.pass_time(2)
    assert world.words() == ("bad", "good")


def test_an_alarm_survives_who_set_it_and_what_a_change_does_to_systemd(world: _SystemdWorld) -> None:
    def set_and_die() -> None:
        world.port.set(world.alarm("rang", after_s=3))
        os.kill(os.getpid(), 9)

    child = multiprocessing.get_context("fork").Process(target=set_and_die)
    child.start()
    child.join(10)
    assert child.exitcode == -9
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "daemon-reexec"], check=True)
    assert world.port.waits(NAME)
    world.pass_time(4)
    assert world.words() == ("rang",)


def test_what_it_starts_is_ended_where_it_runs_too_long(world: _SystemdWorld) -> None:
    world.port.set(Alarm(NAME, "a test", ("/bin/sleep", "60"), 0.1, 1))
    world.pass_time(3)
    shown = subprocess.run(
        ["systemctl", "show", "-P", "Result", NAME], check=True, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "timeout"
