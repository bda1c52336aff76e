"""What the package's units and scripts ask: may a change begin, and has dpkg finished?"""

from __future__ import annotations

import pytest

from agent.commands.internal import after_dpkg, due
from agent.errors import LockedError
from tests.fakes.clock import FakeClock
from tests.fakes.dpkg import FakePackageManager


def test_a_change_begins_at_once_where_nobody_installs_anything() -> None:
    assert after_dpkg.wait(FakePackageManager(), FakeClock(), deadline_s=60) == 0


def test_a_change_waits_until_apt_has_finished() -> None:
    clock = FakeClock()
    waited = after_dpkg.wait(FakePackageManager(pid=7, looks=20), clock, deadline_s=60)
    assert waited == pytest.approx(10)


def test_an_apt_that_never_ends_is_named_and_the_node_stays_as_it_is() -> None:
    with pytest.raises(LockedError) as error:
        after_dpkg.wait(FakePackageManager(pid=4711), FakeClock(), deadline_s=60)
    assert error.value.code == "NNA0401"
    assert "process 4711" in error.value.seen[0]
    assert error.value.try_ == "systemctl start nydus-agent-apply"


@pytest.mark.parametrize(
    ("on_install", "accepted", "begins"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_a_node_changes_by_itself_only_where_its_operator_said_so(
    on_install: bool, accepted: bool, begins: bool
) -> None:
    assert due.judge(on_install=on_install, accepted=accepted)[0] is begins
