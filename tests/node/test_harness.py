"""The nodes, their parts and the stand-ins do what the tests of the product rely on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.node import boot, cache, hand, images, keeper, machine, parts, scene, stock
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


# The node


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


def test_containerds_configuration_is_debians_wherever_the_machine_allows_it() -> None:
    able = machine.Machine(sys_resource=True, controllers=True)
    root = stock.root()
    assert stock.containerd_config(able) == (root / "etc/containerd/config.toml").read_text()


@pytest.mark.parametrize(
    ("snapshotter", "path"),
    [
        ("0.16.1", "/usr/local/bin/containerd-nydus-grpc"),
        ("0.13.4", "/usr/bin/containerd-nydus-grpc"),
        ("none", ""),
    ],
)
def test_the_node_has_the_snapshotter_that_was_asked_for(
    node_factory: Callable[..., Node], snapshotter: str, path: str
) -> None:
    node = node_factory(snapshotter=snapshotter)
    assert node.run("command -v containerd-nydus-grpc || true").stdout.strip() == path


def test_a_stopped_node_leaves_nothing_on_the_machine() -> None:
    with Node() as node:
        node.run(["ctr", "version"])
        assert traces(node.name) != []
    assert traces(node.name) == []


def test_nodes_run_beside_each_other_without_seeing_each_other(node_factory: Callable[..., Node]) -> None:
    one, other = node_factory(), node_factory()
    registry = parts.start_registry(one)
    images.push(one, "reader", f"{registry.host}/reader:1")
    parts.start_registry(other)
    assert '"reader"' in one.run(["curl", "-s", f"http://{registry.host}/v2/_catalog"]).stdout
    assert '"reader"' not in other.run(["curl", "-s", f"http://{registry.host}/v2/_catalog"]).stdout


def test_what_one_installation_compiled_is_what_the_next_one_finds_and_its_purge_takes_away(
    node: Node, tmp_path: Path
) -> None:
    def installed() -> dict[str, int]:
        scene.install_only(node, "", tmp_path)
        found = node.inside("/usr/share/nydus-node-agent").rglob("*.py*")
        modules = {str(path): int(path.stat().st_mtime) for path in found}
        node.run(["nydus-agent", "version"])
        node.apt("purge", "nydus-node-agent")
        assert not node.exists("/usr/share/nydus-node-agent")
        return modules

    first = installed()
    assert len(first) > 100
    assert sum(name.endswith(".pyc") for name in first) == sum(name.endswith(".py") for name in first)
    assert installed() == first, "nothing was compiled anew"


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


def test_a_test_run_that_is_interrupted_takes_its_node_with_it(
    other_run: tuple[subprocess.Popen[str], str, int],
) -> None:
    run, name, _ = other_run
    run.send_signal(signal.SIGINT)
    run.wait(30)
    assert traces(name) == []


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
    third = node.read("/proc/sys/kernel/random/boot_id")
    node.run(["systemctl", "reboot"])
    node.follow_reboot()
    assert len({first, second, third, node.read("/proc/sys/kernel/random/boot_id")}) == 4
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


# Registries


def test_a_tls_registry_is_trusted_by_its_own_ca_only_until_the_ca_is_installed(node: Node) -> None:
    registry = parts.start_tls_registry(node)
    assert registry.ca is not None
    url = f"{registry.url}/v2/"
    assert node.run(["curl", "-s", url], check=False).returncode == 60  # CURLE_PEER_FAILED_VERIFICATION
    assert (
        node.run(["curl", "-s", "--cacert", parts.make_ca(node, "other"), url], check=False).returncode == 60
    )
    assert node.run(["curl", "-s", "--cacert", registry.ca, url]).stdout == "{}"
    parts.trust(node, registry.ca)
    assert node.run(["curl", "-s", url]).stdout == "{}"


def test_a_registry_with_credentials_serves_only_who_has_them(node: Node) -> None:
    registry = parts.start_auth_registry(node)
    images.push(node, "reader", f"{registry.host}/reader:1", user=registry.user, password=registry.password)
    with pytest.raises(NodeError, match="401"):
        images.push(node, "reader-nydus", f"{registry.host}/reader:2")
    code = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    url = f"{registry.url}/v2/reader/manifests/1"
    assert node.run([*code, url]).stdout == "401"
    accept = ["-H", "Accept: application/vnd.oci.image.manifest.v1+json"]
    assert node.run([*code, *accept, "-u", f"{parts.USER}:{parts.PASSWORD}", url]).stdout == "200"


def test_a_registry_counts_the_blob_bytes_that_it_sent(node: Node) -> None:
    registry = parts.start_registry(node)
    images.push(node, "reader-nydus", f"{registry.host}/reader:1")
    blob = images.image("reader-nydus").blob
    node.run(["curl", "-s", "-r", "0-999", "-o", "/dev/null", f"{registry.url}/v2/reader/blobs/{blob}"])
    node.wait_until(lambda: registry.blob_bytes() == 1000, 5, "the registry has logged the read")


# Real parts together


@pytest.mark.parametrize("snapshotter", ["0.16.1", "0.13.4"])
def test_a_nydus_image_starts_lazily_through_the_stand_in(
    node_factory: Callable[..., Node], snapshotter: str
) -> None:
    node = node_factory(snapshotter=snapshotter)
    registry, mirror = parts.start_registry(node), parts.start_mirror(node)
    images.push(node, "python-nydus", f"{registry.host}/python-nydus:1")
    hand.set_up(node)
    started = scene.start_nydus(node, f"{registry.host}/python-nydus:1")
    assert started.output == "hello from python\n"
    fetched, size = mirror.stats()["blob_bytes"], images.image("python-nydus").size
    print(
        f"snapshotter {snapshotter}: {started.first_output_s:.2f} s, {fetched / 1e6:.1f} of "
        f"{size / 1e6:.1f} MB"
    )
    assert 0 < fetched < 0.35 * size


def test_a_pod_runs_from_a_plain_image(node: Node) -> None:
    registry = parts.start_registry(node)
    images.push(node, "python", f"{registry.host}/python:1")
    images.load_pause(node)
    scene.pull(node, f"{registry.host}/python:1")
    assert scene.pod(node, f"{registry.host}/python:1", ["python3", "-c", "print(6 * 7)"]) == "42\n"
