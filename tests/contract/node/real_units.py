"""The Units contract on systemd itself. Runs inside a booted test node (tests/node/test_contracts.py)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SystemdError
from agent.system.systemd import SystemdUnits
from tests.contract.units import UnitsContract, UnitsWorld

_DIRECTORY = Path("/etc/systemd/system")
_INSTALL = "[Install]\nWantedBy=multi-user.target\n"
_FILES = {
    "good.service": "[Service]\nExecStart=/bin/sleep infinity\n" + _INSTALL,
    "bad.service": "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=600\n"
    "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo it broke >&2; exit 3'\n",
    "slow.service": "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n",
}


class _SystemdWorld(UnitsWorld):
    def __init__(self) -> None:
        self.port = SystemdUnits()
        self.added = [self._lay(name, text) for name, text in _FILES.items()]
        subprocess.run(["systemctl", "daemon-reload"], check=True)

    def _lay(self, name: str, text: str) -> str:
        (_DIRECTORY / name).write_text(text)
        return name

    def add(self, name: str) -> None:
        self.added.append(self._lay(name, _FILES["good.service"]))

    def take_away(self, name: str) -> None:
        self.added.remove(name)
        (_DIRECTORY / name).unlink()

    def is_enabled(self, name: str) -> bool:
        return (_DIRECTORY / "multi-user.target.wants" / name).is_symlink()

    def remove(self) -> None:
        subprocess.run(["systemctl", "stop", *self.added], check=True)
        subprocess.run(["systemctl", "reset-failed"], check=True)
        for name in self.added:
            (_DIRECTORY / name).unlink()
        subprocess.run(["systemctl", "daemon-reload"], check=True)


@pytest.fixture
def world() -> Iterator[UnitsWorld]:
    made = _SystemdWorld()
    yield made
    made.remove()


class TestSystemd(UnitsContract):
    pass


def test_a_unit_at_its_start_limit_is_reset_before_it_is_started(world: UnitsWorld) -> None:
    for _ in range(4):  # the limit is 2
        with pytest.raises(SystemdError) as caught:
            world.port.job("bad.service", "start", deadline_s=10)
        assert any("status=3" in line for line in caught.value.seen), "it was really started, not refused"


def test_our_own_restarts_never_reach_the_start_limit(world: UnitsWorld) -> None:
    for _ in range(8):  # systemd's default limit is 5 starts in 10 s
        assert world.port.job("good.service", "restart", deadline_s=10).active_state == "active"


def test_the_facts_of_a_real_service_are_all_there(world: UnitsWorld) -> None:
    drop_in = _DIRECTORY / "good.service.d"
    drop_in.mkdir()
    (drop_in / "a.conf").write_text(
        "[Service]\nKillMode=process\nRestart=on-abort\nEnvironment=NO_PROXY=localhost A=1\n"
    )
    try:
        world.port.reload()
        fact = world.port.job("good.service", "start", deadline_s=10)
        assert fact.fragment_path == "/etc/systemd/system/good.service"
        assert fact.drop_in_paths == ("/etc/systemd/system/good.service.d/a.conf",)
        assert (fact.kill_mode, fact.environment) == ("process", ("NO_PROXY=localhost", "A=1"))
        assert fact.restart == "on-abort"
        assert time.monotonic() - 10 < fact.inactive_exit_us / 1e6 <= time.monotonic()
        assert not fact.needs_reload
        (drop_in / "a.conf").write_text("[Service]\nKillMode=mixed\n")
        changed = world.port.get("good.service")
        assert changed is not None
        assert (changed.needs_reload, changed.kill_mode) == (True, "process")
    finally:
        (drop_in / "a.conf").unlink()
        drop_in.rmdir()


def test_a_unit_that_is_no_service_can_be_looked_at(world: UnitsWorld) -> None:
    fact = world.port.get("multi-user.target")
    assert fact is not None
    assert (fact.load_state, fact.main_pid, fact.kill_mode) == ("loaded", 0, "")


def test_a_masked_unit_is_refused_with_systemds_own_words(world: UnitsWorld) -> None:
    (_DIRECTORY / "masked.service").symlink_to("/dev/null")
    world.port.reload()
    try:
        fact = world.port.get("masked.service")
        assert fact is not None
        assert fact.load_state == "masked"
        with pytest.raises(SystemdError) as caught:
            world.port.job("masked.service", "start", deadline_s=5)
        assert "masked" in caught.value.cause
    finally:
        (_DIRECTORY / "masked.service").unlink()


def test_a_name_that_is_no_unit_name_is_an_error(world: UnitsWorld) -> None:
    with pytest.raises(SystemdError):
        world.port.get("no unit name!")
