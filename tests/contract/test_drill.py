"""A drill: one set of promises for the fake and for nft, then what only a real kernel can show.

Runs as root; each test has a network namespace of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from agent.errors import FenceError
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.drill import NftDrill
from agent.netfilter.fence import NftFence
from agent.ports import Drill, DrillKind, DrillScope
from tests.contract.netns import own_network
from tests.contract.test_fence import AGENT_UID, OTHER_UID, as_user, connect_as
from tests.fakes.drill import FakeDrill

NOWHERE = DrillScope(("127.0.0.1", 4001), ("127.0.0.1", 4003), AGENT_UID, ())
QUIET_S = 0.3
"""How long silence must last to be called so."""


@pytest.fixture(params=["fake", "nft"])
def drill(request: pytest.FixtureRequest) -> Iterator[Drill]:
    if request.param == "fake":
        yield FakeDrill()
        return
    with own_network(), ended(NftDrill()) as real:
        yield real


@pytest.fixture
def nft() -> Iterator[NftDrill]:
    with own_network(), ended(NftDrill()) as real:
        yield real


@contextmanager
def ended(real: NftDrill) -> Iterator[NftDrill]:
    try:
        yield real
    finally:
        real.end()


class TestEveryDrill:
    def test_it_begins_once_and_ends_as_often_as_one_likes(self, drill: Drill) -> None:
        drill.end()
        assert drill.begin(DrillKind.DOWN, NOWHERE, 30).nydusd == 0
        with pytest.raises(FenceError):
            drill.begin(DrillKind.HANG, NOWHERE, 30)
        drill.end()
        drill.end()
        drill.begin(DrillKind.HANG, NOWHERE, 30)
        drill.end()


class Mirror:
    """A listener on the mirror's port and one on the ping's, with what this process has open to them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._proxy = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        self._ping = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        self.proxy, self.ping = int(self._proxy.getsockname()[1]), int(self._ping.getsockname()[1])

    def scope(self, *nydusd: str, uid: int = AGENT_UID) -> DrillScope:
        return DrillScope(("127.0.0.1", self.proxy), ("127.0.0.1", self.ping), uid, nydusd)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A connection of this process to the mirror: both ends."""
        ours = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.proxy), timeout=2))
        theirs, _ = self._proxy.accept()
        theirs.settimeout(2)
        return ours, self._stack.enter_context(theirs)


@pytest.fixture
def mirror(nft: NftDrill) -> Iterator[Mirror]:
    with ExitStack() as stack:
        yield Mirror(stack)


def own() -> str:
    """The cgroup of this process, which stands for nydusd."""
    return CgroupTree().own()


def ruleset() -> str:
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def is_heard(sender: socket.socket, receiver: socket.socket) -> bool:
    """Whether a byte arrives."""
    sender.sendall(b"x")
    receiver.settimeout(QUIET_S)
    try:
        return receiver.recv(1) == b"x"
    except TimeoutError:
        return False


class TestDown:
    def test_new_connections_are_refused_for_all_and_for_the_agent_too(
        self, nft: NftDrill, mirror: Mirror
    ) -> None:
        nft.begin(DrillKind.DOWN, mirror.scope(), 30)
        for uid in (0, OTHER_UID, AGENT_UID):
            assert connect_as(uid, "127.0.0.1", mirror.proxy) == "ECONNREFUSED"
        assert connect_as(AGENT_UID, "127.0.0.1", mirror.ping) == "ECONNREFUSED"
        nft.end()
        assert connect_as(AGENT_UID, "127.0.0.1", mirror.proxy) == "open"
        assert ruleset() == ""

    def test_others_may_still_ask_the_mirrors_health_url(self, nft: NftDrill, mirror: Mirror) -> None:
        """The kubelet does, and would restart a mirror that does not answer."""
        nft.begin(DrillKind.DOWN, mirror.scope(), 30)
        assert connect_as(0, "127.0.0.1", mirror.ping) == "open"

    def test_what_nydusd_and_the_agent_have_open_ends(self, nft: NftDrill, mirror: Mirror) -> None:
        ours, _ = mirror.connect()
        assert nft.begin(DrillKind.DOWN, mirror.scope(own()), 30).nydusd == 1
        with pytest.raises(ConnectionAbortedError):
            ours.recv(1)
        nft.end()
        agents, _ = mirror.connect()
        struck = nft.begin(DrillKind.DOWN, mirror.scope(uid=os.geteuid()), 30)
        assert (struck.nydusd, struck.agent) == (0, 1)
        with pytest.raises(ConnectionAbortedError):
            agents.recv(1)

    def test_a_transfer_of_somebody_else_goes_on(self, nft: NftDrill, mirror: Mirror) -> None:
        ours, theirs = mirror.connect()
        nft.begin(DrillKind.DOWN, mirror.scope(), 30)
        assert is_heard(ours, theirs)
        assert is_heard(theirs, ours)


class TestHang:
    def test_nydusd_is_heard_no_more_until_it_ends(self, nft: NftDrill, mirror: Mirror) -> None:
        nydusd, hears = mirror.connect()
        assert nft.begin(DrillKind.HANG, mirror.scope(own()), 30).nydusd == 1
        assert not is_heard(nydusd, hears)
        nft.end()
        hears.settimeout(60)
        assert hears.recv(1) == b"x", "the kernel sends it again"

    def test_a_transfer_of_somebody_else_goes_on(self, nft: NftDrill, mirror: Mirror) -> None:
        ours, theirs = mirror.connect()
        nft.begin(DrillKind.HANG, mirror.scope("/no/such.service"), 30)
        assert is_heard(ours, theirs)

    def test_the_agent_is_not_heard_and_new_connections_get_no_answer(
        self, nft: NftDrill, mirror: Mirror
    ) -> None:
        agents, hears = mirror.connect()
        nft.begin(DrillKind.HANG, mirror.scope(uid=os.geteuid()), 30)
        assert not is_heard(agents, hears)
        for where in (mirror.proxy, mirror.ping):
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", where), timeout=QUIET_S)
        assert connect_as(OTHER_UID, "127.0.0.1", mirror.ping) == "open"

    def test_what_the_fence_refuses_is_refused_and_not_lost(self, nft: NftDrill, mirror: Mirror) -> None:
        nft.begin(DrillKind.HANG, mirror.scope(), 30)
        with closing(NftFence(AGENT_UID)) as fence:
            fence.renew("127.0.0.1", mirror.proxy, 10_000)
            assert connect_as(0, "127.0.0.1", mirror.proxy) == "ECONNREFUSED"
            fence.remove_table()


class TestItsEnd:
    @pytest.mark.parametrize("kind", list(DrillKind))
    def test_it_ends_by_itself(self, nft: NftDrill, mirror: Mirror, kind: DrillKind) -> None:
        nft.begin(kind, mirror.scope(), 0.4)
        deadline = time.monotonic() + 60
        while connect_as(AGENT_UID, "127.0.0.1", mirror.proxy) != "open":
            assert time.monotonic() < deadline, "the drill did not end"

    def test_a_process_that_is_killed_leaves_nothing(self, nft: NftDrill, mirror: Mirror) -> None:
        with other_process(mirror) as child:
            assert "nydus_agent_drill" in ruleset()
            with pytest.raises(FenceError):
                nft.begin(DrillKind.DOWN, mirror.scope(), 30)
            child.send_signal(signal.SIGKILL)
            child.wait(60)
        assert ruleset() == ""
        assert connect_as(0, "127.0.0.1", mirror.proxy) == "open"

    def test_without_the_right_it_says_so_and_leaves_nothing(self, mirror: Mirror) -> None:
        done = subprocess.run(
            [*as_user(OTHER_UID), *begin_it(mirror)], capture_output=True, text=True, check=False, timeout=20
        )
        assert "CAP_NET_ADMIN" in done.stderr
        assert ruleset() == ""


def begin_it(mirror: Mirror) -> list[str]:
    code = (
        "import sys, time; sys.path[:0] = ['/src', '.']\n"
        "from agent.netfilter.drill import NftDrill\n"
        "from agent.ports import DrillKind, DrillScope\n"
        f"scope = DrillScope(('127.0.0.1', {mirror.proxy}), ('127.0.0.1', {mirror.ping}), {AGENT_UID}, ())\n"
        "drill = NftDrill(); drill.begin(DrillKind.DOWN, scope, 60); print('up', flush=True); time.sleep(60)"
    )
    return [sys.executable, "-c", code]


@contextmanager
def other_process(mirror: Mirror) -> Iterator[subprocess.Popen[str]]:
    """Another process in whose hands a drill is."""
    with subprocess.Popen(
        begin_it(mirror), stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            yield child
        finally:
            child.kill()
