"""The nodes, their parts and the stand-ins do what the tests of the product rely on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import boot, cache, images, keeper, parts
from tests.node.boot import Node, NodeError

REPOSITORY = Path(__file__).parents[2]


def traces(name: str) -> list[str]:
    """What there is of a node on this machine: mounts, cgroups, directories, processes."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    found += [str(path) for path in keeper.cgroups(name)]
    for directory in (boot.nodes_dir() / name, Path("/run/systemd/nspawn/propagate") / name):
        found += [str(directory)] if directory.exists() else []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # has just ended
            found += [str(entry)] if name.encode() in entry.read_bytes() else []
    return found


def gone(name: str, deadline_s: float) -> list[str]:
    deadline = time.monotonic() + deadline_s
    while (left := traces(name)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_a_node_is_a_plain_debian_node_with_containerd_running_and_nothing_failed(node: Node) -> None:
    assert node.failed_units() == []
    assert "VERSION_CODENAME=trixie" in node.read("/etc/os-release")
    plugins = [line.split() for line in node.run(["ctr", "plugins", "ls"]).stdout.splitlines()]
    assert ["io.containerd.grpc.v1", "cri", "ok"] in [
        [words[0], words[1], words[-1]] for words in plugins if words
    ]
    assert "nydus" not in node.read("/etc/containerd/config.toml")
    assert [line.split()[0] for line in node.run(["ip", "-brief", "link"]).stdout.splitlines()] == ["lo"]
    assert "Version:" in node.run(["nydusd", "--version"]).stdout


def test_a_stopped_node_leaves_nothing_on_the_machine() -> None:
    with Node() as node:
        node.run(["ctr", "version"])
        assert traces(node.name) != []
    assert traces(node.name) == []


_BOOT_AND_WAIT = """
import signal, time
# It is ignored where a shell began us in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.node.boot import Node
with Node() as node:
    print(node.name, node._keeper.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Another test run with a node that is up: its process, the node's name, the keeper's pid.

    Its nodes lie where no other run looks: each one that boots a node sweeps.
    """
    apart = cache.cache_dir() / f"nodes-{os.getpid()}"
    monkeypatch.setenv("NYDUS_AGENT_TEST_NODES_DIR", str(apart))
    with subprocess.Popen(
        [sys.executable, "-c", _BOOT_AND_WAIT], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        name, keeper_pid = run.stdout.readline().split()
        yield run, name, int(keeper_pid)
        run.kill()
    boot.sweep()
    apart.rmdir()


def test_a_killed_test_run_takes_its_node_with_it(other_run: tuple[subprocess.Popen[str], str, int]) -> None:
    run, name, _ = other_run
    run.kill()
    run.wait(10)
    assert gone(name, 20) == []


def test_what_a_killed_keeper_leaves_is_swept_by_the_next_run(
    other_run: tuple[subprocess.Popen[str], str, int],
) -> None:
    run, name, keeper_pid = other_run
    os.kill(keeper_pid, signal.SIGKILL)
    run.kill()
    run.wait(10)
    deadline = time.monotonic() + 20
    while any("/proc/" in trace for trace in traces(name)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert name in boot.sweep()
    assert gone(name, 10) == []


def test_files_survive_a_reboot_and_a_power_cut(node: Node) -> None:
    node.write("/etc/kept", "text\n", mode=0o640)
    first = node.read("/proc/sys/kernel/random/boot_id")
    node.reboot()
    second = node.read("/proc/sys/kernel/random/boot_id")
    node.power_cut()
    assert len({first, second, node.read("/proc/sys/kernel/random/boot_id")}) == 3
    assert node.run(["stat", "-c", "%a", "/etc/kept"]).stdout == "640\n"
    assert node.run(["systemctl", "is-active", "containerd"]).stdout.strip() == "active"


def test_commands_fail_loudly_and_end_in_time(node: Node) -> None:
    with pytest.raises(NodeError, match=r"exit status 3\nout\nerr"):
        node.run("echo out; echo err >&2; exit 3")
    with pytest.raises(NodeError, match=r"not done after 0\.5 s"):
        node.run(["sleep", "4711"], timeout=0.5)
    node.wait_until(
        lambda: node.run(["pgrep", "-f", "sleep 4711"], check=False).returncode == 1, 5, "sleep has ended"
    )
    assert node.run(["id", "-un"], user="nobody").stdout == "nobody\n"
    assert node.run(["cat"], input="in").stdout == "in"
    with pytest.raises(NodeError, match=r"not within 0\.2 s: never"):
        node.wait_until(lambda: False, 0.2, "never")


def test_a_registry_counts_the_blob_bytes_that_it_sent(node: Node) -> None:
    registry = parts.start_registry(node)
    images.push(node, "reader-nydus", f"{registry.host}/reader:1")
    blob = images.image("reader-nydus").blob
    node.run(["curl", "-s", "-r", "0-999", "-o", "/dev/null", f"{registry.url}/v2/reader/blobs/{blob}"])
    node.wait_until(lambda: registry.blob_bytes() == 1000, 5, "the registry has logged the read")
