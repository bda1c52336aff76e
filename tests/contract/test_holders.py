"""ListenerProcesses: the contract on the fake (on real services: tests/contract/node), and what cannot be
followed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.facts.node import Listener
from agent.netfilter.cgroups import CgroupProcesses, CgroupTree
from agent.netfilter.sock_diag import KernelSockets
from agent.ports import Holders
from tests.contract.holders import HoldersContract, HoldersWorld
from tests.contract.netns import own_network
from tests.fakes.daemon import FakeListenerProcesses


class _FakeWorld(HoldersWorld):
    def __init__(self) -> None:
        self.port = self.fake = FakeListenerProcesses()
        self.listens = Listener("127.0.0.1", 4001, 0, 77)

    def kill(self) -> None:
        self.fake.end("dfdaemon (pid 77)")

    def stop(self, how: str) -> None:
        self.fake.stop(how)

    def resume(self) -> None:
        self.fake.stop("")


class TestFake(HoldersContract):
    @pytest.fixture
    def world(self) -> Iterator[HoldersWorld]:
        made = _FakeWorld()
        yield made
        made.fake.close()


@pytest.fixture
def processes() -> Iterator[CgroupProcesses]:
    made = CgroupProcesses(CgroupTree())
    yield made
    made.close()


def test_a_socket_of_which_the_kernel_tells_no_cgroup_is_not_followed(processes: CgroupProcesses) -> None:
    assert "unknown" in processes.follow(Listener("127.0.0.1", 4001, 0, 1))
    assert processes.read() == Holders()


def test_a_cgroup_that_is_no_services_is_not_followed(processes: CgroupProcesses) -> None:
    # The tests themselves run in no service's cgroup, or in one of many processes.
    with own_network(), socket.create_server(("127.0.0.1", 0)) as server, closing(KernelSockets()) as tables:
        found = tables.find_listener(*server.getsockname())
        assert found is not None
        assert processes.follow(found) != ""
    assert processes.read() == Holders()
