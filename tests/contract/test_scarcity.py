"""The way to the origin needs nothing that a node in distress may lack: no descriptor, thread, module, or
place in the journal; and its pages stay in memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.time_bounds import mostly

PROLOGUE = """
import errno, os, resource, socket, sys
sys.path[:0] = [os.getcwd()]
"""
NO_DESCRIPTORS = """
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.fence import NftFence
from tests.contract.netns import own_network
with own_network(), socket.create_server(("127.0.0.1", 0)) as mirror:
    host, port = mirror.getsockname()
    fence, own = NftFence(61234), (CgroupTree().own(),)
    fence.assert_table()
    fence.release(host, port, own, 30)
    waits = socket.create_connection((host, port))
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        print(os.open("/", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
    for _ in range(3):
        fence.renew(host, port, 10_000)
        print(fence.release(host, port, own, 30).waiting)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(fence.fenced()[0][1] == port)
"""
NO_NETLINK = """
import nftables
from agent.netfilter.fence import NftFence
loaded = nftables.Nftables()
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(NftFence(61234).available())
"""
LOCKED = """
from agent.system.resident import lock_memory
def kilobytes(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
before = kilobytes("VmRSS")
print(lock_memory(*[int(limit) for limit in sys.argv[1:]]))
more = bytearray(8 << 20)
print(kilobytes("VmLck") > 0, kilobytes("VmRSS") - before - (8 << 10) < 1024)
"""
GIVEN_BACK = """
import ctypes
from agent.system.resident import return_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def kilobytes():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
def used(count, size):
    made = [ctypes.c_void_p(libc.malloc(size)) for _ in range(count)]
    for each in made:
        libc.memset(each, 1, size)
    for each in made:
        libc.free(each)
if sys.argv[1:]:
    return_memory()
before = kilobytes()
used(1, 8 << 20)
used(60, 100 << 10)
print(kilobytes() - before < 2 << 10)
"""
NAMED = """
import asyncio
from agent.system.resident import SystemNames
print(*asyncio.run(SystemNames().addresses("localhost")))
print("encodings.idna" in sys.modules)
"""
NO_THREADS = """
import asyncio, logging
from agent.system.resident import SystemNames
from agent.errors import PortError
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(*asyncio.run(SystemNames().addresses("127.0.0.1")))
try:
    asyncio.run(SystemNames().addresses("localhost"))
except PortError as error:
    print(error.cause)
"""


NO_ADDRESS = """
import asyncio
from pathlib import Path
from agent.daemon.http_client import Connection, ProbeError
from tests.contract.netns import own_network
async def asked(host):
    try:
        await Connection(host, 9).connect()
    except ProbeError as error:
        return error.failure
with own_network():
    Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
    print(asyncio.run(asked("::1")))
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40001")
    import socket
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    print(asyncio.run(asked("127.0.0.1")))
"""


def run(code: str, *arguments: str, before: tuple[str, ...] = ()) -> list[str]:
    """The lines that a process of its own printed."""
    argv = [*before, sys.executable, "-c", PROLOGUE + code, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_a_descriptor_the_fence_goes_up_and_connections_end() -> None:
    assert run(NO_DESCRIPTORS) == ["1", "0", "0", "True"]


def test_an_ipv6_mirror_that_this_node_has_no_address_for_is_not_taken_for_a_lack_of_ports() -> None:
    assert run(NO_ADDRESS) == ["unreachable", "want"]


def test_where_no_netlink_socket_can_be_had_the_fence_says_so_and_the_process_lives() -> None:
    """As on a kernel without nftables; libnftables would end the process."""
    assert run(NO_NETLINK) == ["netlink socket: Too many open files"]


def test_where_it_may_the_daemon_keeps_its_pages_in_memory_and_needs_no_more_of_it() -> None:
    assert run(LOCKED, "-1") == ["True", "True True"]  # the test may: it is root, and no limit binds it


def test_where_little_may_be_locked_nothing_is_so_that_later_allocations_do_not_fail() -> None:
    assert run(LOCKED, before=("prlimit", "--memlock=8388608:8388608")) == ["False", "False True"]


def test_what_the_daemon_has_freed_it_does_not_keep() -> None:
    assert run(GIVEN_BACK, "given back") == ["True"]
    assert run(GIVEN_BACK) == ["False"], "malloc gives it back by itself, so that this shows nothing"


def test_a_registrys_name_is_looked_up_without_the_codec_for_other_scripts_which_costs_memory() -> None:
    assert run(NAMED)[-1] == "False"


def test_without_a_thread_addresses_are_known_and_names_an_error_that_the_daemon_lives_with() -> None:
    unprivileged = ("setpriv", "--reuid=61236", "--clear-groups", "--bounding-set=-all")
    assert run(NO_THREADS, before=unprivileged) == ["127.0.0.1", "can't start new thread"]


def daemon_of(module: str, root: Path) -> dict[str, Any]:
    """What a whole daemon told that runs in a process of its own."""
    argv = [sys.executable, "-m", f"tests.contract.{module}", str(root)]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return daemon_of("outage", tmp_path_factory.mktemp("outage"))


def test_the_way_to_the_origin_imports_nothing_and_starts_no_thread(outage: dict[str, Any]) -> None:
    assert outage["imported"] == []
    assert outage["threads"] == 0


def test_a_daemon_that_has_ended_waits_for_nothing_any_more(outage: dict[str, Any]) -> None:
    assert outage["left"] is False


def test_it_takes_milliseconds_with_the_real_fence(tmp_path_factory: pytest.TempPathFactory) -> None:
    def took() -> float:
        return float(daemon_of("outage", tmp_path_factory.mktemp("outage"))["took_s"])

    mostly(took, 0.1, "seconds to the fence")


@pytest.fixture(scope="module")
def want(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return daemon_of("want", tmp_path_factory.mktemp("want"))


def accused_nobody(made: dict[str, Any]) -> bool:
    steady = (made["health_state"], made["route"], made["raised"]) == ("healthy", "mirror", 0)
    return steady and made["changes"].count("healthy") == 1 and not {"suspect", "down"} & set(made["changes"])


def test_a_mirror_is_not_fenced_because_the_daemon_cannot_take_its_canaries_way_back(
    want: dict[str, Any],
) -> None:
    made = want["not_accepted"]
    assert made["not_taken"] > 0, "every canary's way back was taken, so that this shows nothing"
    assert made["pings_wanted"] == 0, (
        "the probes lacked something too, so that this shows nothing of accept()"
    )
    assert accused_nobody(made), made
    assert made["told"] == "True"


def test_a_daemon_without_descriptors_accuses_no_mirror_and_says_what_it_lacks(want: dict[str, Any]) -> None:
    assert want["wanted"] > 0, "the daemon lacked nothing, so that this shows nothing"
    assert accused_nobody(want), want
    assert want["told"] == "True"


def test_an_origin_that_cannot_be_asked_for_want_of_a_descriptor_is_not_called_bad(
    want: dict[str, Any],
) -> None:
    assert want["origin"] == [True, "AgentInWant"]
