"""Whose the mirror's port is, and what is made of the processes around its listener."""

from __future__ import annotations

import pytest

from agent.config.model import Config
from agent.daemon.documents import applied
from agent.daemon.probes import MirrorListener
from agent.daemon.settings import settings
from agent.facts.node import Listener
from agent.health.evidence import MirrorEnded, Owner
from tests.fakes.daemon import FakeListenerProcesses, FakeTables


class World:
    """A mirror on 127.0.0.1:4001, the default, with root's listener."""

    def __init__(self) -> None:
        self.tables = FakeTables()
        self.processes = FakeListenerProcesses()
        self.listener = MirrorListener(self.tables, self.processes, settings(Config(), applied(None), "node"))
        self.told: list[MirrorEnded] = []
        self.tables.held[4001] = 0
        self.see(0.0)

    def see(self, now: float) -> Owner:
        return self.listener.owner(now).owner

    def look(self) -> None:
        event = self.listener.ended()
        if event is not None:
            self.told.append(event)


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_listener_is_followed_once(world: World) -> None:
    world.see(1.0)
    assert world.processes.followed == [Listener("127.0.0.1", 4001, 0, 5001)]


def test_the_end_of_the_process_with_the_listener_is_told(world: World) -> None:
    world.tables.held.clear()
    world.processes.end("dfdaemon (pid 7)")
    world.look()
    world.look()
    assert world.told == [MirrorEnded("it has ended: dfdaemon (pid 7)")]
    world.tables.held[4001] = 0
    world.see(2.0)
    assert len(world.processes.followed) == 2


def test_a_helper_that_ends_beside_it_is_not(world: World) -> None:
    world.processes.end("grpc_health_probe (pid 9)")
    world.look()
    assert world.told == []


def test_being_stopped_is_told_once_each_time(world: World) -> None:
    for _ in range(2):
        world.processes.stop("its cgroup is frozen")
        world.look()
        world.look()
        world.processes.stop("")
        world.look()
    assert world.told == [MirrorEnded("it is stopped: its cgroup is frozen")] * 2


def test_what_cannot_be_followed_is_tried_again_later_and_says_nothing_meanwhile() -> None:
    world = World()
    world.processes.refuses = "its cgroup is no service's: /"
    world.tables.held.clear()
    world.see(1.0)
    world.tables.held[4001] = 0
    world.see(2.0)
    assert world.listener.problem == "its cgroup is no service's: /"
    world.processes.end("x (pid 1)")
    world.tables.held.clear()
    world.look()
    assert world.told == []
    world.tables.held[4001] = 0
    for now in (3.0, 61.0, 63.0):
        world.see(now)
    assert len(world.processes.followed) == 3  # at 0, 2 and 63


def test_where_nobody_listens_nobody_is_followed(world: World) -> None:
    world.tables.held.clear()
    assert world.see(1.0) is Owner.NONE
    assert len(world.processes.followed) == 1
    assert world.listener.problem == ""


def test_the_owner_is_judged_by_the_users_whose_listener_counts(world: World) -> None:
    assert world.see(1.0) is Owner.OK
    world.tables.held[4001] = 61000
    assert world.see(2.0) is Owner.FOREIGN
    world.tables.broken = "permission denied"
    assert world.see(3.0) is Owner.UNKNOWN


def test_what_happens_to_processes_that_nobody_asks_about_is_taken_notice_of_once(world: World) -> None:
    """Else their descriptor would stay readable, and the daemon would do nothing but read it."""
    world.tables.held.clear()
    world.see(1.0)
    world.processes.end("a helper (pid 9)")
    world.look()
    world.look()
    assert world.told == []
    assert world.processes.read().ended == ()
