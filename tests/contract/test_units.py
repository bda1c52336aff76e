"""Units: the contract on the fake (on systemd itself: tests/contract/node), and a place without systemd."""

from __future__ import annotations

import pytest

from agent.errors import SystemdError
from agent.system.systemd import SystemdUnits
from tests.contract.units import UnitsContract, UnitsWorld
from tests.fakes.files import FakeFiles
from tests.fakes.units import FakeUnits, unit


class _FakeWorld(UnitsWorld):
    def __init__(self) -> None:
        self.files = FakeFiles()
        names = ("good.service", "bad.service", "slow.service")
        self.port = self.fake = FakeUnits([unit(name, enabled=False) for name in names], files=self.files)
        self.fake.journal["bad.service"] = [
            "Starting bad.service...",
            "it broke",
            "Failed to start bad.service.",
        ]
        self.fake.fail_job("bad.service", "start", times=100)
        self.fake.fail_job("slow.service", "start", "", times=100)

    def add(self, name: str) -> None:
        self.files.put(f"/etc/systemd/system/{name}", b"[Service]\nExecStart=/bin/sleep infinity\n")

    def take_away(self, name: str) -> None:
        del self.files.files[f"/etc/systemd/system/{name}"]

    def is_enabled(self, name: str) -> bool:
        return self.fake.units[name].unit_file_state == "enabled"


class TestFake(UnitsContract):
    @pytest.fixture
    def world(self) -> UnitsWorld:
        return _FakeWorld()


def test_where_no_systemd_runs_it_is_said_and_nothing_hangs() -> None:
    units = SystemdUnits()  # the build root has no systemd as PID 1 and no bus
    assert not units.running()
    with pytest.raises(SystemdError) as caught:
        units.get("containerd.service")
    assert caught.value.code == "NNA0501"
    with pytest.raises(SystemdError):
        units.job("containerd.service", "restart", deadline_s=1)
    with pytest.raises(SystemdError):
        units.reload()
    assert units.journal_tail("containerd.service", 5) == ()
