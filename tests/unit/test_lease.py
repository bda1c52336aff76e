"""The lease of the fence, on a fence of dictionaries and a clock that is moved by hand."""

from __future__ import annotations

import pytest

from agent.daemon.lease import PATIENCE_S, FenceLease
from agent.errors import FenceError
from agent.facts.node import FenceAbility, Unknown
from agent.ports import Released
from tests.fakes.clock import FakeClock
from tests.fakes.daemon import FakeCgroups
from tests.fakes.fence import FakeFence

MIRROR = ("127.0.0.1", 4001)
SNAPSHOTTER = "/system.slice/nydus-snapshotter.service"
CONTAINERD = "/system.slice/containerd.service"


class Stage:
    """A lease, and what is around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.fence = FakeFence(self.clock)
        self.cgroups = FakeCgroups()
        self.lease = FenceLease(self.fence, self.cgroups, MIRROR)

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def hold(self, lease_s: float = 10.0) -> None:
        self.lease.raise_(lease_s, self.now)

    def raised(self) -> Stage:
        self.lease.prepare()
        self.hold()
        return self


@pytest.fixture
def stage() -> Stage:
    return Stage()


def broken(what: str) -> FenceError:
    return FenceError("NNA0801", what, cause="no answer in time")


class TestConnections:
    def test_nydusds_end_at_once_and_containerds_by_what_they_do(self, stage: Stage) -> None:
        stage.fence.open_sockets = 3
        stage.fence.transfers = Released(waiting=2, stalled=1, spared=4)
        stage.hold()
        assert stage.fence.released == [(*MIRROR, (SNAPSHOTTER,), (CONTAINERD,), PATIENCE_S)]
        counters = stage.lease.counters
        assert (counters.destroyed, counters.released_waiting, counters.released_stalled) == (3, 2, 1)
        assert counters.spared == 4

    def test_each_renewal_looks_again_and_what_is_spared_is_no_sum(self, stage: Stage) -> None:
        stage.fence.transfers = Released(waiting=2, spared=4)
        stage.hold()
        stage.hold()
        assert len(stage.fence.released) == 2
        assert (stage.lease.counters.released_waiting, stage.lease.counters.spared) == (2, 4)
        stage.lease.lift()
        assert stage.lease.counters.spared == 0

    def test_a_pods_shim_is_not_containerd(self, stage: Stage) -> None:
        stage.cgroups.homes["containerd-shim"] = "/kubepods.slice/pod1"
        stage.cgroups.homes["containerd-nydu"] = "/system.slice/another-snapshotter.service"
        stage.hold()
        others = ("/system.slice/another-snapshotter.service", SNAPSHOTTER)
        assert stage.fence.released == [(*MIRROR, others, (CONTAINERD,), PATIENCE_S)]

    def test_where_they_run_is_known_beforehand(self, stage: Stage) -> None:
        stage.lease.find_clients()
        stage.cgroups.homes.clear()  # whoever would ask now finds nothing
        stage.hold()
        assert stage.fence.released == [(*MIRROR, (SNAPSHOTTER,), (CONTAINERD,), PATIENCE_S)]

    def test_what_was_known_stays_known_when_a_later_look_fails(self, stage: Stage) -> None:
        stage.lease.find_clients()
        stage.cgroups.broken = "Too many open files"
        stage.lease.find_clients()
        stage.hold()
        assert stage.fence.released == [(*MIRROR, (SNAPSHOTTER,), (CONTAINERD,), PATIENCE_S)]

    def test_where_nobody_was_found_and_none_can_be_looked_for_the_fence_is_up_and_it_is_told(
        self, stage: Stage
    ) -> None:
        stage.cgroups.broken = "Too many open files"
        stage.hold()
        assert stage.fence.fenced() == ((*MIRROR, 10_000),)
        assert stage.lease.destroy_error == "processes could not be listed: Too many open files"

    def test_a_failure_leaves_the_fence_up_and_is_told_until_it_is_over(self, stage: Stage) -> None:
        stage.fence.faults.at(1, broken("connections could not be listed"), method="release")
        stage.hold()
        assert stage.fence.fenced() == ((*MIRROR, 10_000),)
        assert stage.lease.destroy_error == "connections could not be listed: no answer in time"
        stage.hold()
        assert stage.lease.destroy_error == ""


class TestMending:
    def test_a_flushed_fence_comes_back_for_what_was_left_of_its_lease(self, stage: Stage) -> None:
        stage.raised()
        stage.clock.sleep(4)
        stage.fence.flush()
        stage.lease.mend(stage.now)
        assert stage.fence.fenced() == ((*MIRROR, 6_000),)

    def test_so_does_an_element_that_somebody_deleted(self, stage: Stage) -> None:
        stage.raised().fence.lift(*MIRROR)
        stage.lease.mend(stage.now)
        assert stage.fence.fenced() == ((*MIRROR, 10_000),)

    def test_a_look_that_fails_for_a_moment_is_no_failure_of_the_fence(self, stage: Stage) -> None:
        stage.raised().fence.faults.at(1, broken("nft's rules could not be read"), method="stands")
        stage.lease.mend(stage.now)
        assert stage.fence.fenced() == ((*MIRROR, 10_000),)

    def test_what_cannot_be_mended_is_told(self, stage: Stage) -> None:
        stage.raised().fence.flush()
        stage.fence.unavailable = "no permission"
        with pytest.raises(FenceError, match="nft cannot be used"):
            stage.lease.mend(stage.now)

    def test_a_whole_fence_is_left_alone(self, stage: Stage) -> None:
        stage.raised().clock.sleep(4)
        stage.lease.mend(stage.now)
        assert stage.fence.fenced() == ((*MIRROR, 6_000),)
        assert stage.lease.counters.renewed == 0

    def test_a_fence_that_is_not_up_is_not_raised_but_made_ready_again(self, stage: Stage) -> None:
        stage.lease.prepare()
        stage.fence.flush()
        stage.lease.mend(stage.now)
        assert stage.fence.table
        assert stage.fence.fenced() == ()

    def test_what_was_never_prepared_is_not_made(self, stage: Stage) -> None:
        stage.lease.mend(stage.now)
        assert not stage.fence.table

    def test_somebody_who_removes_the_table_all_the_time_is_not_fought_at_every_tick(
        self, stage: Stage
    ) -> None:
        stage.lease.prepare()
        made = 0
        for _ in range(40):  # ten seconds of ticks
            stage.fence.flush()
            stage.lease.mend(stage.now)
            made += stage.fence.table
            stage.clock.sleep(0.25)
        assert 9 <= made <= 10

    def test_after_removal_nothing_comes_back(self, stage: Stage) -> None:
        stage.raised().lease.remove()
        stage.lease.mend(stage.now)
        assert not stage.fence.table


class TestTime:
    def test_a_lease_of_a_former_run_is_taken_over_and_other_mirrors_are_let_go(self, stage: Stage) -> None:
        stage.fence.renew(*MIRROR, 7_000)
        stage.fence.renew("10.0.0.9", 4001, 7_000)
        assert stage.lease.adopt(stage.now) == 7.0
        assert stage.fence.fenced() == ((*MIRROR, 7_000),)
        stage.hold()
        assert (stage.lease.counters.raised, stage.lease.counters.renewed) == (0, 1)

    def test_a_lease_that_has_run_out_meanwhile_is_raised_anew(self, stage: Stage) -> None:
        stage.raised().clock.sleep(11)
        assert stage.fence.fenced() == ()
        stage.hold()
        assert (stage.lease.counters.raised, stage.lease.counters.renewed) == (2, 0)

    def test_refusals_are_counted_over_a_flushed_ruleset(self, stage: Stage) -> None:
        stage.raised().fence.refusals = 5
        stage.lease.count_refused()
        stage.fence.refusals = 2  # the table was made anew
        stage.lease.count_refused()
        assert stage.lease.counters.refused == 7


class TestSelfTest:
    def test_it_is_done_once(self, stage: Stage) -> None:
        stage.lease.test(stage.now)
        stage.fence.ability = FenceAbility(usable=False, reason="a load balancer rewrites addresses")
        stage.clock.sleep(3600)
        stage.lease.test(stage.now)
        assert stage.lease.self_test == "ok"

    def test_one_that_could_not_be_tried_is_no_failure_and_is_tried_with_the_next_look(
        self, stage: Stage
    ) -> None:
        stage.fence.ability, well = Unknown("no port is left"), stage.fence.ability
        stage.lease.test(stage.now)
        assert (stage.lease.self_test, stage.lease.self_test_reason) == ("not-run", "no port is left")
        stage.fence.ability = well
        stage.lease.test(stage.now)
        assert stage.lease.self_test == "ok"

    def test_one_that_failed_is_repeated_each_minute(self, stage: Stage) -> None:
        stage.fence.ability, well = FenceAbility(usable=False, reason="no nft"), stage.fence.ability
        stage.lease.test(stage.now)
        assert (stage.lease.self_test, stage.lease.self_test_reason) == ("failed", "no nft")
        stage.fence.ability = well
        stage.clock.sleep(59)
        stage.lease.test(stage.now)
        assert stage.lease.self_test == "failed"
        stage.clock.sleep(1)
        stage.lease.test(stage.now)
        assert stage.lease.self_test == "ok"


def test_the_snapshotter_and_a_users_program_of_that_name_are_no_readers() -> None:
    cgroups = FakeCgroups()
    cgroups.homes["containerd-nydu"] = cgroups.homes["nydusd"]
    cgroups.homes["nydusd-x"] = "/user.slice/user-1000.slice"
    lease = FenceLease(FakeFence(), cgroups, ("127.0.0.1", 4001))
    lease.find_clients()
    assert lease.readers == 1
