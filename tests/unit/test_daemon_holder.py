"""What is made of the processes around the mirror's listener."""

from __future__ import annotations

import pytest

from agent.daemon.holder import Holder
from agent.health.evidence import MirrorEnded
from agent.node.facts_daemon import Listener
from tests.fakes.daemon import FakeListenerProcesses, FakeTables


class World:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.processes = FakeListenerProcesses()
        self.told: list[MirrorEnded] = []
        self.holder = Holder(self.processes, self.tables, ("127.0.0.1", 4001), self.told.append)
        self.tables.held[4001] = 0
        self.see(0.0)

    def see(self, now: float) -> None:
        self.holder.seen(self.tables.find_listener("127.0.0.1", 4001), now)


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_listener_is_followed_once(world: World) -> None:
    world.see(1.0)
    assert world.processes.followed == [Listener("127.0.0.1", 4001, 0, 5001)]


def test_the_end_of_the_process_with_the_listener_is_told(world: World) -> None:
    world.tables.held.clear()
    world.processes.end("dfdaemon (pid 7)")
    world.holder.look()
    world.holder.look()
    assert world.told == [MirrorEnded("it has ended: dfdaemon (pid 7)")]
    world.tables.held[4001] = 0
    world.see(2.0)
    assert len(world.processes.followed) == 2


def test_a_helper_that_ends_beside_it_is_not(world: World) -> None:
    world.processes.end("grpc_health_probe (pid 9)")
    world.holder.look()
    assert world.told == []


def test_being_stopped_is_told_once_each_time(world: World) -> None:
    for _ in range(2):
        world.processes.stop("its cgroup is frozen")
        world.holder.look()
        world.holder.look()
        world.processes.stop("")
        world.holder.look()
    assert world.told == [MirrorEnded("it is stopped: its cgroup is frozen")] * 2


def test_what_cannot_be_followed_is_tried_again_later_and_says_nothing_meanwhile() -> None:
    world = World()
    world.processes.refuses = "its cgroup is no service's: /"
    world.tables.held.clear()
    world.see(1.0)
    world.tables.held[4001] = 0
    world.see(2.0)
    assert world.holder.problem == "its cgroup is no service's: /"
    world.processes.end("x (pid 1)")
    world.tables.held.clear()
    world.holder.look()
    assert world.told == []
    world.tables.held[4001] = 0
    for now in (3.0, 61.0, 63.0):
        world.see(now)
    assert len(world.processes.followed) == 3  # at 0, 2 and 63


def test_where_nobody_listens_nobody_is_followed(world: World) -> None:
    world.holder.seen(None, 1.0)
    assert len(world.processes.followed) == 1
    assert world.holder.problem == ""
