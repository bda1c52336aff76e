"""The fence: one set of promises for the fake and for nft, then what only a real kernel can show.

Runs as root; each test has a network namespace of its own.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.facts.node import FenceAbility, Unknown
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.fence import NftFence
from agent.ports import Fence, Released
from tests.contract.netns import own_network
from tests.contract.waiting import wait_until
from tests.fakes.fence import FakeFence
from tests.time_bounds import mostly

AGENT_UID = 61234  # stands for the daemon's user
OTHER_UID = 61235


@pytest.fixture
def nft() -> Iterator[NftFence]:
    with own_network(), closing(NftFence(AGENT_UID)) as real:
        yield real


@pytest.fixture(params=["fake", "nft"])
def fence(request: pytest.FixtureRequest) -> Fence:
    real: NftFence
    if request.param == "nft":
        real = request.getfixturevalue("nft")
        return real
    return FakeFence()


class TestEveryFence:
    def test_it_says_that_it_can_be_used(self, fence: Fence) -> None:
        assert fence.available() == ""
        assert ability_of(fence).usable

    def test_a_fenced_mirror_is_named_with_what_is_left_of_its_lease(self, fence: Fence) -> None:
        fence.assert_table()
        assert fence.fenced() == ()
        fence.renew("127.0.0.1", 4001, 10_000)
        ((address, port, left_ms),) = fence.fenced()
        assert (address, port) == ("127.0.0.1", 4001)
        assert 8_000 <= left_ms <= 10_000

    def test_renewing_needs_no_table_and_sets_the_lease_anew(self, fence: Fence) -> None:
        fence.renew("127.0.0.1", 4001, 60_000)
        fence.renew("127.0.0.1", 4001, 5_000)
        fence.renew("::1", 4001, 30_000)
        left = {address: ms for address, _, ms in fence.fenced()}
        assert 3_000 <= left["127.0.0.1"] <= 5_000
        assert 28_000 <= left["::1"] <= 30_000

    def test_lifting_twice_and_removing_twice_is_no_error(self, fence: Fence) -> None:
        fence.lift("127.0.0.1", 4001)
        fence.renew("127.0.0.1", 4001, 10_000)
        fence.lift("127.0.0.1", 4001)
        fence.lift("127.0.0.1", 4001)
        assert fence.fenced() == ()
        fence.remove_table()
        fence.remove_table()
        assert fence.fenced() == ()
        assert fence.refused() == 0

    def test_a_fence_that_was_flushed_away_comes_back_with_the_next_renewal(self, fence: Fence) -> None:
        fence.renew("127.0.0.1", 4001, 10_000)
        if isinstance(fence, FakeFence):
            fence.flush()
        else:
            subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=60)
        assert fence.fenced() == ()
        assert not fence.intact()
        fence.renew("127.0.0.1", 4001, 10_000)
        assert len(fence.fenced()) == 1
        assert fence.intact()

    def test_a_fence_stands_where_it_was_raised_until_it_is_lifted_or_lapses(self, fence: Fence) -> None:
        assert not fence.stands("127.0.0.1", 4001)
        for address in ("127.0.0.1", "::1"):
            fence.renew(address, 4001, 10_000)
            assert fence.stands(address, 4001)
            assert not fence.stands(address, 4002)
            fence.lift(address, 4001)
            assert not fence.stands(address, 4001)
        fence.renew("127.0.0.1", 4001, 10_000)
        fence.remove_table()
        assert not fence.stands("127.0.0.1", 4001)

    def test_nothing_is_destroyed_where_nobody_has_a_connection(self, fence: Fence) -> None:
        assert fence.destroy("127.0.0.1", 4001, (CgroupTree().own(),)) == 0
        assert fence.release("127.0.0.1", 4001, (CgroupTree().own(),), 0.0) == Released()


def as_user(uid: int) -> list[str]:
    """Not subprocess's own `user`: that needs a real fork, and grpcio's fork handlers (of other tests) hang
    in it.
    """
    return ["setpriv", f"--reuid={uid}", "--clear-groups", "--bounding-set=-all"]


def connect_as(uid: int, host: str, port: int) -> str:
    """What a process of that user meets when it connects: "open", or the error's name."""
    code = (
        "import errno, socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close(); print('open')\n"
        "except OSError as e: print(errno.errorcode.get(e.errno, repr(e)))"
    )
    argv = [*as_user(uid), sys.executable, "-I", "-c", code, host, str(port)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


@pytest.fixture
def mirror(nft: NftFence) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield int(server.getsockname()[1])


class TestNft:
    def test_everyone_is_refused_at_once_but_the_daemon_passes(self, nft: NftFence, mirror: int) -> None:
        nft.renew("127.0.0.1", mirror, 10_000)
        assert connect_as(AGENT_UID, "127.0.0.1", mirror) == "open"
        assert connect_as(0, "127.0.0.1", mirror) == "ECONNREFUSED"
        assert connect_as(OTHER_UID, "127.0.0.1", mirror) == "ECONNREFUSED"
        assert nft.refused() == 2
        nft.lift("127.0.0.1", mirror)
        assert connect_as(0, "127.0.0.1", mirror) == "open"

    def test_another_port_and_another_address_are_not_touched(self, nft: NftFence, mirror: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            nft.renew("127.0.0.1", mirror, 10_000)
            nft.renew("127.0.0.2", other.getsockname()[1], 10_000)
            assert connect_as(0, "127.0.0.1", other.getsockname()[1]) == "open"

    def test_ipv6_is_fenced_too(self, nft: NftFence) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
            assert connect_as(0, "::1", port) == "open"
            nft.renew("::1", port, 10_000)
            assert connect_as(0, "::1", port) == "ECONNREFUSED"

    def test_a_transfer_under_way_is_left_to_end(self, nft: NftFence, mirror: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
            with socket.create_connection((host, port), timeout=2) as client, server.accept()[0] as peer:
                nft.renew(host, port, 10_000)
                peer.sendall(b"x" * 100_000)
                received = 0
                while received < 100_000:
                    piece = client.recv(65536)
                    assert piece != b"", "cut"
                    received += len(piece)

    def test_a_lease_ends_by_itself(self, nft: NftFence, mirror: int) -> None:
        for lease_ms in (300, 3_000, 20_000):  # longer than a process takes to begin
            nft.renew("127.0.0.1", mirror, lease_ms)
            if (met := connect_as(0, "127.0.0.1", mirror)) == "ECONNREFUSED":
                break
        assert met == "ECONNREFUSED"
        wait_until(lambda: connect_as(0, "127.0.0.1", mirror) == "open", "the lease has ended")

    def test_no_connection_slips_through_while_the_lease_is_renewed(self, nft: NftFence, mirror: int) -> None:
        lease_s = 0.3
        for _ in range(20):
            passed, longest_s = self._hammered(nft, mirror, lease_s)
            if longest_s < lease_s / 2:  # else a busy machine may have let the lease end
                break
        assert passed == []

    def _hammered(self, nft: NftFence, mirror: int, lease_s: float) -> tuple[list[int], float]:
        """Which of a thousand connections came through meanwhile, and the longest time between two
        renewals.
        """
        passed, tries, enough = list[int](), 0, threading.Event()

        def hammer() -> None:
            nonlocal tries
            while not enough.is_set():
                tries += 1
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", mirror)) == 0:
                        passed.append(tries)

        nft.renew("127.0.0.1", mirror, round(lease_s * 1000))
        began = at = time.monotonic()
        # A thread is created in the namespace of the thread that makes it.
        thread = threading.Thread(target=hammer)
        thread.start()
        renewals, longest_s = 0, 0.0
        try:
            while renewals < 50 or tries < 1000 or at < began + 4 * lease_s:
                nft.renew("127.0.0.1", mirror, round(lease_s * 1000))
                renewals, before, at = renewals + 1, at, time.monotonic()
                longest_s = max(longest_s, at - before)
                assert at < began + 60
                thread.join(0.02)
        finally:
            enough.set()
            thread.join()
        return passed, longest_s

    def test_a_lapsed_fence_is_renewed_all_the_same(self, nft: NftFence, mirror: int) -> None:
        nft.renew("127.0.0.1", mirror, 50)
        select.select([], [], [], 0.2)
        nft.renew("127.0.0.1", mirror, 10_000)
        assert connect_as(0, "127.0.0.1", mirror) == "ECONNREFUSED"

    def test_a_new_process_finds_the_running_fence(self, nft: NftFence) -> None:
        nft.renew("127.0.0.1", 4001, 60_000)
        ((address, port, left_ms),) = NftFence(AGENT_UID).fenced()
        assert (address, port) == ("127.0.0.1", 4001)
        assert left_ms > 30_000

    def test_a_thousand_renewals_do_not_leak(self, nft: NftFence) -> None:
        def resident_kb() -> int:
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))

        for _ in range(200):
            nft.renew("127.0.0.1", 4001, 10_000)
        before = resident_kb()
        for _ in range(1000):
            nft.renew("127.0.0.1", 4001, 10_000)
        assert resident_kb() - before < 512

    def test_thousands_of_other_rules_do_not_make_it_slow(self, nft: NftFence, mirror: int) -> None:
        lines = [
            "add table ip services",
            "add map ip services where { type ipv4_addr . inet_service : verdict; }",
        ]
        for number in range(2000):
            target = f"10.0.{number // 250}.{number % 250} . 80"
            lines.append(f"add chain ip services s{number}")
            lines.append(f"add rule ip services s{number} tcp dport 80 accept")
            lines.append(f"add element ip services where {{ {target} : goto s{number} }}")
        subprocess.run(["nft", "-f", "-"], input="\n".join(lines), text=True, check=True, timeout=60)
        nft.assert_table()

        def took() -> float:
            started = time.monotonic()
            nft.renew("127.0.0.1", mirror, 10_000)
            return time.monotonic() - started

        mostly(took, 0.005, "seconds for a renewal")
        assert connect_as(0, "127.0.0.1", mirror) == "ECONNREFUSED"
        assert nft.refused() == 1

    def test_without_the_right_it_says_so(self, nft: NftFence) -> None:
        code = (
            "import sys; sys.path[:0] = ['/src', '.']\n"
            "from agent.netfilter.fence import NftFence\n"
            "f = NftFence(0); print(f.available()); print(f.self_test(deadline_s=1).reason)"
        )
        argv = [*as_user(OTHER_UID), sys.executable, "-c", code]
        available, reason = subprocess.check_output(argv, text=True, timeout=20).splitlines()
        assert "CAP_NET_ADMIN" in available
        assert "CAP_NET_ADMIN" in reason


def ability_of(
    fence: Fence, port: int = 4001, host: str = "127.0.0.1", *, deadline_s: float = 30
) -> FenceAbility:
    """What a self-test says that could be made."""
    ability = fence.self_test(deadline_s=deadline_s, mirror=(host, port))
    assert isinstance(ability, FenceAbility), ability
    return ability


class TestSelfTest:
    def test_it_leaves_nothing_behind_and_does_not_touch_the_mirror(self, nft: NftFence, mirror: int) -> None:
        ability = ability_of(nft, mirror)
        assert ability.usable, ability.reason
        assert "destroyed" in ability.reason
        assert subprocess.check_output(["nft", "list", "ruleset"], timeout=60) == b""
        assert connect_as(0, "127.0.0.1", mirror) == "open"

    def test_it_works_where_the_mirror_is_dead_and_where_the_fence_is_up(
        self, nft: NftFence, mirror: int
    ) -> None:
        assert ability_of(nft, 4001).usable
        nft.renew("127.0.0.1", mirror, 10_000)
        assert ability_of(nft, mirror).usable
        assert len(nft.fenced()) == 1

    def test_a_rewritten_address_makes_it_fail(self, nft: NftFence) -> None:
        # As a load balancer does that rewrites before the fence sees the packet.
        chain = "type filter hook output priority -300; ip daddr 192.0.2.1 ip daddr set 192.0.2.2;"
        subprocess.run(["ip", "route", "add", "192.0.2.0/24", "dev", "lo"], check=True, timeout=60)
        subprocess.run(["nft", f"table ip lb {{ chain output {{ {chain} }}; }}"], check=True, timeout=60)
        ability = ability_of(nft, 4001, "192.0.2.1", deadline_s=0.5)
        assert not ability.usable
        assert "load balancer" in ability.reason

    def test_a_mirror_without_a_route_to_it_makes_it_inconclusive_only(self, nft: NftFence) -> None:
        ability = ability_of(nft, 4001, "192.0.2.1")
        assert ability.usable
        assert "not tested" in ability.reason

    def test_ports_that_a_user_has_taken_say_nothing_of_the_fence(self, nft: NftFence) -> None:
        ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
        before = ports.read_text()
        ports.write_text("40000 40001")
        with socket.create_server(("127.0.0.1", 40000)), socket.create_server(("127.0.0.1", 40001)):
            untried = nft.self_test(deadline_s=30, mirror=("127.0.0.1", 4001))
            assert isinstance(untried, Unknown), untried
        ports.write_text(before)
        assert ability_of(nft, 4001).usable


@pytest.fixture
def cgroup() -> Iterator[str]:
    """A cgroup of our own, by its path in /proc/PID/cgroup."""
    tree = CgroupTree()
    path = f"{tree.own().rstrip('/')}/nna-test-{os.getpid()}"
    directory = tree.mount() / path.lstrip("/")
    directory.mkdir()
    yield path
    wait_until(lambda: not (directory / "cgroup.procs").read_text(), "the cgroup is empty")
    directory.rmdir()


class TestDestruction:
    @pytest.fixture
    def nydusd(self, nft: NftFence, mirror: int, cgroup: str) -> Iterator[subprocess.Popen[str]]:
        """A process named nydusd in a cgroup of its own that waits for an answer of the mirror."""
        code = (
            "import socket, sys\n"
            "open('/proc/self/comm', 'w').write('nydusd')\n"
            "open(sys.argv[2] + '/cgroup.procs', 'w').write('0')\n"
            "s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.send(b'GET'); print('up', "
            "flush=True)\n"
            "try: print('read', s.recv(1))\n"
            "except OSError as e: print(type(e).__name__)"
        )
        directory = CgroupTree().mount() / cgroup.lstrip("/")
        argv = [sys.executable, "-I", "-c", code, str(mirror), str(directory)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            yield child
            child.kill()

    def test_a_waiting_nydusd_is_freed_at_once_and_others_are_left_alone(
        self, nft: NftFence, mirror: int, cgroup: str, nydusd: subprocess.Popen[str]
    ) -> None:
        found = CgroupTree().of_processes("nydusd")["nydusd"]
        assert cgroup in found
        with socket.create_connection(("127.0.0.1", mirror), timeout=2) as ours:
            assert nft.destroy("127.0.0.1", mirror, (cgroup,)) == 1
            assert nydusd.communicate(timeout=60)[0] == "ConnectionAbortedError\n"
            ours.sendall(b"still open")

    def test_a_cgroup_that_is_gone_and_the_parents_destroy_nothing(
        self, nft: NftFence, mirror: int, cgroup: str, nydusd: subprocess.Popen[str]
    ) -> None:
        for other in ("/no/such.service", str(Path(cgroup).parent)):
            assert nft.destroy("127.0.0.1", mirror, (other,)) == 0
        assert nydusd.poll() is None

    def test_a_peer_of_an_ipv6_socket_with_an_ipv4_address_is_found(self, nft: NftFence, mirror: int) -> None:
        with socket.socket(socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1", mirror))
            assert nft.destroy("127.0.0.1", mirror, (CgroupTree().own(),)) == 1
            with pytest.raises(ConnectionAbortedError):
                client.recv(1)


def test_an_address_that_is_none_is_an_error_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="localhost"):
        NftFence(0).renew("localhost", 4001, 1000)


@pytest.mark.parametrize(
    "content", ["raise ImportError('no libnftables here')", "# something else of this name"]
)
def test_a_lack_of_libnftables_is_a_reason_and_not_a_crash(tmp_path: Path, content: str) -> None:
    (tmp_path / "nftables.py").write_text(content)
    code = (
        f"import sys; sys.path[:0] = ['{tmp_path}', '/src', '.']\n"
        "from agent.netfilter.fence import NftFence; print(NftFence(0).available())"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=20)
    assert said.startswith("libnftables: ")
