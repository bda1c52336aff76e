"""Whose socket the agent takes for the mirror's is the one that the kernel really gives connections to,
whatever other users hold beside it; and which process has it.

Runs as root; each test has a network namespace of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import pytest

from agent.dragonfly.command_line import environment_of
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.netlink import NetlinkError, NetlinkMessage, NetlinkSocket
from agent.netfilter.sock_diag import KernelSockets, ProcHolders, SockDiag
from tests.contract.netns import own_network
from tests.contract.waiting import ENDS_S

PORT = 4001
USER = 65534
KINDS = (
    ("127.0.0.1", False),
    ("127.0.0.2", False),
    ("0.0.0.0", False),
    ("::", False),
    ("::", True),
    ("::1", False),
    ("::ffff:127.0.0.1", False),
    ("::ffff:0.0.0.0", False),
)
"""An address, and whether the socket takes no IPv4 connections (IPV6_V6ONLY)."""
MANY = int(os.environ.get("NYDUS_AGENT_TEST_LISTENERS", "20000"))


def listen(address: str, *, v6only: bool = False, shared: bool = False) -> socket.socket:
    """A listening socket on PORT. With `shared` (SO_REUSEPORT) those of one user may overlap."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        if ":" in address:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        made.bind((address, PORT))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


@contextmanager
def as_user() -> Iterator[None]:
    """Sockets that are made meanwhile are another user's."""
    os.seteuid(USER)
    try:
        yield
    finally:
        os.seteuid(0)


def taker(sockets: Sequence[socket.socket], target: str) -> int:
    """The inode of the socket that gets a connection to the target; 0: it is refused."""
    with socket.socket(socket.AF_INET6 if target == "::1" else socket.AF_INET) as client:
        if client.connect_ex((target, PORT)) == errno.ECONNREFUSED:
            return 0
        ready, _, _ = select.select(sockets, [], [], 60)
        (found,) = ready
        found.accept()[0].close()
        return os.fstat(found.fileno()).st_ino


def found(diag: SockDiag, target: str) -> int:
    listener = diag.find_listener(target, PORT)
    return 0 if listener is None else listener.inode


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
def test_a_socket_for_all_addresses_is_nobody_where_the_mirror_is_elsewhere(address: str) -> None:
    """A user who holds one must not pass for whoever took the place of a mirror on another machine."""
    with own_network(), SockDiag() as diag, as_user():
        family_wide = "::" if ":" in address else "0.0.0.0"
        with listen(family_wide):
            assert diag.find_listener(address, PORT) is None
            found = diag.find_listener("::1" if ":" in address else "127.0.0.1", PORT)
            assert found is not None
            assert found.uid == USER


def test_the_listener_that_is_named_is_the_one_that_gets_the_connection() -> None:
    met = set[tuple[str, ...]]()
    with own_network(), SockDiag() as diag:
        for count in range(4):
            for kinds in itertools.combinations(KINDS, count):
                with ExitStack() as stack:
                    sockets = [stack.enter_context(listen(one, v6only=v6, shared=True)) for one, v6 in kinds]
                    for target in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"):
                        got = taker(sockets, target)
                        assert found(diag, target) == got, (kinds, target)
                        met.add((target, *(str(kind) for kind, made in zip(kinds, sockets, strict=True)
                                           if os.fstat(made.fileno()).st_ino == got)))  # fmt: skip
                    assert found(diag, "::ffff:127.0.0.1") == found(diag, "127.0.0.1")
    assert len(met) > 15, "each kind of socket was the one for some target"


@pytest.mark.parametrize(
    ("mirror", "beside"), [("127.0.0.1", 3), ("0.0.0.0", 2), ("::", 0), ("::ffff:127.0.0.1", 3)]
)
def test_what_another_user_can_hold_beside_the_mirrors_socket_takes_no_connection_from_it(
    mirror: str, beside: int
) -> None:
    target = "127.0.0.1"
    with own_network(), listen(mirror) as own, SockDiag() as diag, ExitStack() as stack:
        mine = os.fstat(own.fileno()).st_ino
        held = []
        with as_user():
            for address, v6only in KINDS:
                try:
                    held.append(stack.enter_context(listen(address, v6only=v6only, shared=True)))
                except OSError as error:
                    assert error.errno == errno.EADDRINUSE  # noqa: PT017 - any other is a fault of the test
        assert len(held) == beside
        listener = diag.find_listener(target, PORT)
        assert listener is not None
        assert (listener.uid, listener.inode) == (0, mine) == (0, taker([own, *held], target))


@contextmanager
def crowd(count: int) -> Iterator[None]:
    """So many listening sockets of another user with the mirror's port, on other addresses of the loopback
    and (where none of them takes IPv4) on all of IPv6's; by several processes, each within the limit of its
    descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = min(count, hard - 1000 if hard != resource.RLIM_INFINITY else count)
    pids = []
    read, write = os.pipe()
    try:
        for first in range(0, count, share):
            pid = os.fork()
            if not pid:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                os.setuid(USER)
                kept = [listen(f"127.{1 + number // 60000}.{number // 250 % 240}.{1 + number % 250}",
                               shared=True)
                        for number in range(first, min(first + share, count))]  # fmt: skip
                kept += [listen("::", v6only=True, shared=True) for _ in range(100)]
                os.write(write, b"x")
                select.select([], [], [])
            pids.append(pid)
        for _ in pids:
            assert os.read(read, 1) == b"x"
        yield
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def test_thousands_of_a_users_sockets_with_the_mirrors_port_do_not_make_the_look_slow() -> None:
    with own_network(), listen("127.0.0.1") as own, SockDiag() as diag, crowd(MANY):
        began = time.process_time()
        for _ in range(20):
            assert found(diag, "127.0.0.1") == os.fstat(own.fileno()).st_ino
        look_s = (time.process_time() - began) / 20
        began = time.process_time()
        count = len(diag.listening(PORT))
        print(
            f"{count} listeners: a look takes {look_s * 1000:.3f} ms, a list of all "
            f"{time.process_time() - began:.2f} s"
        )
        assert count > MANY
        assert look_s < 0.01


def test_connections_are_asked_for_by_the_cgroups_that_they_belong_to() -> None:
    ours = next(iter(CgroupTree().ids((CgroupTree().own(),))))
    others = range(2**40, 2**40 + 1500)
    with own_network(), listen("127.0.0.1") as server, SockDiag() as diag:
        with socket.create_connection(server.getsockname()):
            for cgroups, count in (
                ((), 1), ((ours,), 1), (others[:1], 0), ((ours, others[0]), 1), ((others[0], ours), 1),
                (others[:3], 0), ((*others[:2], ours, *others[2:4]), 1), (others[:1000], 0), ((*others[:999],
                    ours), 1),
                (others, 0), ((*others, ours), 1),  # more than the kernel is asked for
            ):  # fmt: skip
                assert len(diag.towards("127.0.0.1", PORT, cgroups=cgroups)) == count, len(cgroups)
        assert diag.towards("127.0.0.1", PORT + 1, cgroups=(ours,)) == ()


_ROUTE, _NOOP = 0, 1  # NETLINK_ROUTE; NLMSG_NOOP, which the kernel passes over
_GET_LINK = 18  # RTM_GETLINK


def test_what_the_kernel_does_not_answer_ends_with_its_deadline_and_the_next_question_is_answered() -> None:
    with closing(NetlinkSocket(_ROUTE, deadline_s=0.1)) as link:
        began = time.monotonic()
        with pytest.raises(NetlinkError) as caught:
            link.get(NetlinkMessage(_NOOP, 0, b""))
        assert caught.value.code == errno.ETIMEDOUT
        assert 0.1 <= time.monotonic() - began < ENDS_S
        assert link.dump(NetlinkMessage(_GET_LINK, 0, bytes(16)))


LISTENER = """
import socket, sys
made = socket.create_server(("127.0.0.1", 0))
print(made.getsockname()[1], flush=True)
sys.stdin.read()
"""


def inode_of(port: int) -> int:
    with closing(KernelSockets()) as tables:
        (row,) = tables.listening(port)
    return row[2]


def test_the_process_is_found_with_its_command_line_and_dfdaemons_variables_alone() -> None:
    argv = [sys.executable, "-c", LISTENER, "--config", "/x.yaml"]
    env = {"DFDAEMON_CONFIG": "/y.yaml", "PATH": "/usr/bin"}
    with subprocess.Popen(argv, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        holder = ProcHolders(environment_of).of(inode_of(int(child.stdout.readline())))
        assert holder is not None
        assert (holder.pid, list(holder.argv), holder.environment) == (
            child.pid,
            argv,
            {"DFDAEMON_CONFIG": "/y.yaml"},
        )
        child.communicate(timeout=60)


def test_a_socket_that_nobody_holds_any_more_has_no_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        inode = inode_of(made.getsockname()[1])
        assert ProcHolders(environment_of).of(inode) is not None
    assert ProcHolders(environment_of).of(inode) is None
