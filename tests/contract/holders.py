"""What every implementation of the ListenerProcesses port does."""

from __future__ import annotations

import abc
import select
import time

from agent.facts.node import Listener
from agent.ports import Holders, ListenerProcesses


class HoldersWorld(abc.ABC):
    """The port under test, and a service that listens on a TCP port: one process, which holds the socket."""

    port: ListenerProcesses
    listens: Listener

    @abc.abstractmethod
    def kill(self) -> None:
        """The process ends."""

    @abc.abstractmethod
    def stop(self, how: str) -> None:
        """It is stopped by "signal" or "freezer"."""

    @abc.abstractmethod
    def resume(self) -> None:
        """It runs again."""

    def wait(self, within_s: float = 5.0) -> Holders:
        """The first look at which something is to be told, asked again and again."""
        end = time.monotonic() + within_s
        found = self.port.read()
        while not (found.ended or found.stopped) and time.monotonic() < end:
            time.sleep(0.01)
            found = self.port.read()
        return found


class HoldersContract:
    """Run by a class that has a fixture `world`."""

    def test_nothing_is_told_while_it_runs(self, world: HoldersWorld) -> None:
        assert world.port.follow(world.listens) == ""
        assert world.port.read() == Holders()
        assert not select.select([world.port.fileno()], [], [], 0)[0]

    def test_an_end_wakes_and_is_told_once(self, world: HoldersWorld) -> None:
        assert world.port.follow(world.listens) == ""
        world.kill()
        assert select.select([world.port.fileno()], [], [], 60)[0]
        found = world.wait()
        assert len(found.ended) == 1
        assert "pid" in found.ended[0]
        assert world.port.read().ended == ()

    def test_a_stop_is_told_for_as_long_as_it_lasts(self, world: HoldersWorld) -> None:
        assert world.port.follow(world.listens) == ""
        for how in ("signal", "freezer"):
            world.stop(how)
            assert world.wait().stopped != ""
            assert world.port.read().stopped != ""
            world.resume()
            end = time.monotonic() + 60
            while world.port.read().stopped and time.monotonic() < end:
                time.sleep(0.01)
            assert world.port.read() == Holders()
        world.kill()
        assert world.wait().ended != ()

    def test_following_again_forgets_what_was_before(self, world: HoldersWorld) -> None:
        assert world.port.follow(world.listens) == ""
        world.kill()
        world.wait()
        world.port.follow(world.listens)
        assert world.port.read().ended == ()
