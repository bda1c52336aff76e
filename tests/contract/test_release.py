"""Which connections to a fenced mirror are ended and which are spared, on real sockets in a network of their
own.

The clients live in this process, which stands for containerd: its cgroup is the one that is released.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.fence import NftFence
from agent.netfilter.sock_diag import SockDiag
from agent.ports import Released
from tests.contract.netns import own_network

PATIENCE_S = 0.3
LONG_S = 60.0
ANSWER = b"answer\n"
SECONDS = 5
"""How long a socket of a test waits at most."""


class Mirror:
    """Reads lines. `full` gets a whole answer, `half` one that never ends, `flow` one that goes on and on,
    anything else none at all.
    """

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family, backlog=128)
        self.host, self.port = str(self._server.getsockname()[0]), int(self._server.getsockname()[1])
        self._left = ExitStack()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self._left.close()
        self._server.close()

    def connect(self) -> socket.socket:
        client = socket.create_connection((self.host, self.port), timeout=SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._left.callback(connection.close)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as requests:
            for request in requests:
                if request == b"full\n":
                    connection.sendall(ANSWER)
                if request == b"half\n":
                    connection.sendall(b"half of an answer")
                while request == b"flow\n":
                    connection.sendall(b"more")
                    time.sleep(0.02)


@pytest.fixture(params=["127.0.0.1", "::1"])
def mirror(request: pytest.FixtureRequest) -> Iterator[Mirror]:
    with own_network(), closing(Mirror(request.param)) as made:
        yield made


@pytest.fixture
def fence() -> Iterator[NftFence]:
    with closing(NftFence(0)) as made:
        yield made


@pytest.fixture
def client(mirror: Mirror) -> Iterator[socket.socket]:
    with mirror.connect() as made:
        yield made


@pytest.fixture
def release(mirror: Mirror, fence: NftFence) -> Callable[[float], Released]:
    def made(patience_s: float) -> Released:
        return fence.release(mirror.host, mirror.port, (CgroupTree().own(),), patience_s)

    return made


def ask(client: socket.socket, request: bytes, answer: bytes) -> None:
    """Send a request and read the beginning of its answer."""
    client.sendall(request)
    got = b""
    while len(got) < len(answer):
        got += client.recv(len(answer) - len(got))
    assert got == answer


def silent_for(client: socket.socket, seconds: float, *, unread: bool = False) -> None:
    """Time passes in which the connection brings nothing (more than lies unread)."""
    assert bool(select.select([client], [], [], 0)[0]) is unread
    assert select.select([] if unread else [client], [], [], seconds)[0] == []


def is_dead(client: socket.socket) -> bool:
    try:
        client.setblocking(False)
        client.recv(1)
    except BlockingIOError:
        client.settimeout(SECONDS)
        return False
    except ConnectionAbortedError:
        return True
    raise AssertionError("the mirror said something")


def test_a_request_without_an_answer_is_given_up_at_once(
    client: socket.socket, release: Callable[[float], Released]
) -> None:
    client.sendall(b"hang\n")
    assert release(LONG_S) == Released(waiting=1)
    assert is_dead(client)


def test_so_is_a_connection_on_which_nothing_was_asked_yet(
    client: socket.socket, release: Callable[[float], Released]
) -> None:
    assert release(LONG_S) == Released(waiting=1)
    assert is_dead(client)


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("look_after_s", [0.0, 0.1])
def test_so_is_the_next_request_on_a_kept_connection_however_soon_it_came(
    mirror: Mirror, release: Callable[[float], Released], pause_s: float, look_after_s: float
) -> None:
    with mirror.connect() as client:
        for _ in range(4):
            ask(client, b"full\n", ANSWER)
        silent_for(client, pause_s)
        client.sendall(b"hang\n")
        silent_for(client, look_after_s)
        assert release(LONG_S) == Released(waiting=1)
        assert is_dead(client)


def test_an_answer_that_has_begun_is_spared_until_it_brought_nothing_for_the_whole_patience(
    client: socket.socket, release: Callable[[float], Released]
) -> None:
    ask(client, b"half\n", b"half of an answer")
    assert release(PATIENCE_S) == Released(spared=1)
    silent_for(client, PATIENCE_S + 0.05)
    assert release(LONG_S) == Released(spared=1)
    assert release(PATIENCE_S) == Released(stalled=1)
    assert is_dead(client)


def test_an_idle_connection_is_spared_as_long_and_given_up_once_it_is_asked_something(
    client: socket.socket, release: Callable[[float], Released]
) -> None:
    ask(client, b"full\n", ANSWER)
    assert release(LONG_S) == Released(spared=1)
    client.sendall(b"hang\n")
    assert release(LONG_S) == Released(waiting=1)


def test_a_flowing_answer_is_never_cut(client: socket.socket, release: Callable[[float], Released]) -> None:
    ask(client, b"flow\n", b"more")
    until = time.monotonic() + 3 * PATIENCE_S
    while time.monotonic() < until:
        assert client.recv(65536) != b""
        assert release(PATIENCE_S) == Released(spared=1)


def test_an_owner_that_is_slow_to_take_what_it_got_is_not_cut(
    client: socket.socket, release: Callable[[float], Released]
) -> None:
    ask(client, b"half\n", b"half")
    silent_for(client, PATIENCE_S + 0.05, unread=True)
    assert release(PATIENCE_S) == Released(spared=1)


def test_a_connect_that_nobody_answers_is_given_up_at_once(fence: NftFence) -> None:
    with own_network(), socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as clients:
        host, port = address = server.getsockname()
        with suppress(TimeoutError):  # fill the backlog
            for _ in range(8):
                clients.enter_context(socket.create_connection(address, timeout=0.1))
        stuck = clients.enter_context(socket.socket())
        stuck.setblocking(False)
        assert stuck.connect_ex(address) != 0
        before = connecting(host, port)
        assert before >= 1
        assert fence.release(host, port, (CgroupTree().own(),), LONG_S).waiting >= before
        assert connecting(host, port) == 0


def connecting(host: str, port: int) -> int:
    with SockDiag() as diag:
        seen = diag.towards(host, port, transfers=True)
    return sum(found.transfer is not None and found.transfer.connecting for found in seen)


def test_others_are_left_alone(mirror: Mirror, client: socket.socket, fence: NftFence) -> None:
    client.sendall(b"hang\n")
    own = (CgroupTree().own(),)
    assert fence.release(mirror.host, mirror.port, ("/no/such.service",), 0.0) == Released()
    assert fence.release(mirror.host, mirror.port + 1, own, 0.0) == Released()
    assert not is_dead(client)


def test_those_of_a_cgroup_that_may_lose_all_end_whatever_they_do(
    mirror: Mirror, client: socket.socket, fence: NftFence
) -> None:
    ask(client, b"half\n", b"half of an answer")
    own = (CgroupTree().own(),)
    assert fence.release(mirror.host, mirror.port, own, LONG_S, at_once=own) == Released(at_once=1)
    assert is_dead(client)


def test_many_are_told_apart_in_one_look(mirror: Mirror, release: Callable[[float], Released]) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(mirror.connect()) for _ in range(90)]
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.sendall(b"hang\n")
            else:
                ask(client, b"half\n", b"half of an answer")
        assert release(LONG_S) == Released(waiting=30, spared=60)
        assert [is_dead(client) for client in clients] == [number % 3 == 0 for number in range(90)]
