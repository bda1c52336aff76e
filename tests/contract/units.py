"""What every implementation of the Units port does."""

from __future__ import annotations

import abc

import pytest

from agent.errors import SystemdError
from agent.ports import Units


class UnitsWorld(abc.ABC):
    """The port under test, with these units; none is running or enabled at first.

    good.service starts and stays, bad.service fails at each start and says "it broke", slow.service takes for
    ever.
    """

    port: Units

    @abc.abstractmethod
    def add(self, name: str) -> None:
        """Lay a file of a unit like good.service under another name, without a reload."""

    @abc.abstractmethod
    def take_away(self, name: str) -> None:
        """Remove the file of a unit that was added, without a reload."""

    @abc.abstractmethod
    def is_enabled(self, name: str) -> bool:
        """Looked up without the port."""


class UnitsContract:
    """Run by a class that has a fixture `world`."""

    def test_systemd_runs_here(self, world: UnitsWorld) -> None:
        assert world.port.running()

    def test_a_missing_unit_is_none(self, world: UnitsWorld) -> None:
        assert world.port.get("no-such.service") is None

    def test_a_started_unit_is_told_as_running(self, world: UnitsWorld) -> None:
        before = world.port.get("good.service")
        assert before is not None
        assert (before.load_state, before.active_state, before.main_pid) == ("loaded", "inactive", 0)
        after = world.port.job("good.service", "start", deadline_s=10)
        assert (after.name, after.active_state, after.sub_state) == ("good.service", "active", "running")
        assert after.main_pid > 0
        assert len(after.invocation_id) == 32
        assert world.port.get("good.service") == after

    def test_a_restart_is_a_new_process_with_a_new_invocation(self, world: UnitsWorld) -> None:
        first = world.port.job("good.service", "start", deadline_s=10)
        second = world.port.job("good.service", "restart", deadline_s=10)
        assert second.main_pid != first.main_pid
        assert second.invocation_id != first.invocation_id
        assert second.inactive_exit_us >= first.inactive_exit_us > 0

    def test_starting_what_runs_changes_nothing(self, world: UnitsWorld) -> None:
        first = world.port.job("good.service", "start", deadline_s=10)
        assert world.port.job("good.service", "start", deadline_s=10) == first

    def test_a_stopped_unit_is_told_as_inactive(self, world: UnitsWorld) -> None:
        world.port.job("good.service", "start", deadline_s=10)
        after = world.port.job("good.service", "stop", deadline_s=10)
        assert (after.active_state, after.main_pid) == ("inactive", 0)

    def test_a_failed_start_tells_result_state_and_last_words(self, world: UnitsWorld) -> None:
        with pytest.raises(SystemdError) as caught:
            world.port.job("bad.service", "start", deadline_s=10)
        assert caught.value.code == "NNA0503"
        assert "failed" in caught.value.cause
        assert any("it broke" in line for line in caught.value.seen)
        after = world.port.get("bad.service")
        assert after is not None
        assert (after.active_state, after.result) == ("failed", "exit-code")

    def test_a_job_that_takes_too_long_ends_at_the_deadline(self, world: UnitsWorld) -> None:
        with pytest.raises(SystemdError) as caught:
            world.port.job("slow.service", "start", deadline_s=0.5)
        assert caught.value.code == "NNA0503"

    def test_a_job_for_a_missing_unit_is_an_error(self, world: UnitsWorld) -> None:
        for verb in ("start", "stop", "restart"):
            with pytest.raises(SystemdError) as caught:
                world.port.job("no-such.service", verb, deadline_s=5)
            assert caught.value.code == "NNA0502"

    def test_a_unit_is_enabled_and_disabled(self, world: UnitsWorld) -> None:
        world.port.enable("good.service")
        assert world.is_enabled("good.service")
        enabled = world.port.get("good.service")
        assert enabled is not None
        assert enabled.unit_file_state == "enabled"
        world.port.enable("good.service")
        world.port.disable("good.service")
        assert not world.is_enabled("good.service")
        for act in (world.port.enable, world.port.disable):
            with pytest.raises(SystemdError) as caught:
                act("no-such.service")
            assert caught.value.code == "NNA0502"

    def test_a_new_unit_file_counts_after_a_reload(self, world: UnitsWorld) -> None:
        world.add("new.service")
        world.port.reload()
        found = world.port.get("new.service")
        assert found is not None
        assert (found.load_state, found.active_state) == ("loaded", "inactive")
        assert world.port.job("new.service", "start", deadline_s=10).active_state == "active"

    def test_a_unit_whose_file_is_gone_cannot_be_disabled_though_systemd_still_knows_it(
        self, world: UnitsWorld
    ) -> None:
        world.add("gone.service")
        world.port.reload()
        world.port.job("gone.service", "start", deadline_s=10)  # so that systemd does not forget it
        world.take_away("gone.service")
        assert world.port.get("gone.service") is not None
        with pytest.raises(SystemdError) as caught:
            world.port.disable("gone.service")
        assert caught.value.code == "NNA0502"
        assert world.port.job("gone.service", "stop", deadline_s=10).active_state == "inactive"

    def test_the_last_journal_lines_come_newest_last(self, world: UnitsWorld) -> None:
        with pytest.raises(SystemdError):
            world.port.job("bad.service", "start", deadline_s=10)
        lines = world.port.journal_tail("bad.service", 20)
        assert any("it broke" in line for line in lines)
        assert len(world.port.journal_tail("bad.service", 1)) == 1
        assert world.port.journal_tail("bad.service", 1) == lines[-1:]
        assert world.port.journal_tail("bad.service", 0) == ()
        assert world.port.journal_tail("no-such.service", 5) == ()
