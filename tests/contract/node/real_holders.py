"""The ListenerProcesses contract on real services and scopes. Runs inside a booted test node."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.netfilter.cgroups import CgroupProcesses, CgroupTree
from agent.netfilter.sock_diag import KernelSockets
from agent.ports import Holders
from tests.contract.holders import HoldersContract, HoldersWorld
from tests.contract.waiting import wait_until

_UNIT = "listens.service"
_PORT = 4999
_CODE = f"import socket, time; s = socket.create_server(('127.0.0.1', {_PORT})); time.sleep(600)"


class _ServiceWorld(HoldersWorld):
    def __init__(self) -> None:
        self.port = self.real = CgroupProcesses(CgroupTree())
        _run("systemd-run", "--quiet", f"--unit={_UNIT}", "python3", "-c", _CODE)
        end = time.monotonic() + 10
        with closing(KernelSockets()) as tables:
            while not (found := tables.find_listener("127.0.0.1", _PORT)) and time.monotonic() < end:
                time.sleep(0.02)
        assert found is not None
        self.listens = found

    def kill(self) -> None:
        _run("systemctl", "kill", "--signal=KILL", _UNIT)

    def stop(self, how: str) -> None:
        if how == "signal":
            _run("systemctl", "kill", "--signal=STOP", _UNIT)
        else:
            _run("systemctl", "freeze", _UNIT)

    def resume(self) -> None:
        subprocess.run(["systemctl", "thaw", _UNIT], check=False, timeout=20, capture_output=True)
        _run("systemctl", "kill", "--signal=CONT", _UNIT)

    def remove(self) -> None:
        self.real.close()
        subprocess.run(["systemctl", "stop", _UNIT], check=False, timeout=20, capture_output=True)
        subprocess.run(["systemctl", "reset-failed", _UNIT], check=False, timeout=20, capture_output=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


@pytest.fixture
def world() -> Iterator[_ServiceWorld]:
    made = _ServiceWorld()
    yield made
    made.remove()


class TestService(HoldersContract):
    pass


def test_a_helper_that_ends_is_told_as_an_end_too(world: _ServiceWorld) -> None:
    directory = Path("/sys/fs/cgroup/system.slice") / _UNIT
    helper = subprocess.Popen(["sleep", "600"])
    # Popen returns when the program's descriptors are closed, just before the process has its new name.
    comm = Path(f"/proc/{helper.pid}/comm")
    wait_until(lambda: comm.read_text() == "sleep\n", "it is called sleep")
    (directory / "cgroup.procs").write_text(str(helper.pid))
    assert world.port.follow(world.listens) == ""
    helper.kill()
    helper.wait(10)
    assert world.wait().ended == (f"sleep (pid {helper.pid})",)
    with closing(KernelSockets()) as tables:
        assert tables.find_listener("127.0.0.1", _PORT) == world.listens


def test_freezing_is_noticed_by_the_descriptor(world: _ServiceWorld) -> None:
    assert world.port.follow(world.listens) == ""
    world.stop("freezer")
    assert select.select([world.port.fileno()], [], [], 5)[0]
    assert world.port.read() == Holders((), "its cgroup is frozen")
    assert not select.select([world.port.fileno()], [], [], 0)[0]
    world.resume()


def test_finding_the_cgroup_takes_milliseconds(world: _ServiceWorld) -> None:
    started = time.monotonic()
    assert world.port.follow(world.listens) == ""
    took = time.monotonic() - started
    count = sum(1 for path in Path("/sys/fs/cgroup").rglob("cgroup.procs"))
    print(f"found among {count} cgroups in {took * 1000:.1f} ms")
    assert took < 0.1
