"""A node for arm64: our package (Architecture: all) on it, the programs for arm64 taken from a bundle, and a change.

Everything on the node is emulated, so what an arm64 machine has is not all there: no nftables and no sock_diag (qemu
translates no such netlink socket: the mode is native), seccomp, credentials of systemd, and containers (runc).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.artifact_bundle import BundleFiles
from agent.artifacts import bundle
from agent.artifacts.lock import ArtifactName
from agent.node.facts import Arch
from tests.node import arm64, bundled, emulation, scene, upstream
from tests.node.boot import Node

STORE = "/var/lib/nydus-agent/artifacts"
PATIENCE_S = 600.0
"""A Python that is emulated beside other work takes many times as long."""
SITE = """\
[artifacts]
nydus = "current"
snapshotter = "current"
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """With our package, installed by apt; and without any nydus program."""
    with emulation.arm64(), arm64.Arm64Node() as node:
        node.write("/etc/nydus-agent/conf.d/50-site.toml", SITE)
        node.push(scene.deb(), "/var/tmp/agent.deb")
        node.run(["apt-get", "--yes", "--quiet", "install", "/var/tmp/agent.deb"], timeout=PATIENCE_S)
        yield node


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of the cross-built programs, in upstream's layout, and their lock."""
    place = tmp_path_factory.mktemp("release")
    upstream.write_lock(place, *upstream.release(place, arm64.programs(), Arch.ARM64))
    return place


def make_bundle(release: Path) -> Path:
    lock = upstream.read_lock(release)
    path = release / "bundle.tar"
    BundleFiles("/").write(str(path), bundle.planned(lock, lock.artifacts), str(release), lambda _member, _done: None)
    return path


def install(node: Node, source: Path) -> subprocess.CompletedProcess[str]:
    node.push(source, "/var/tmp/bundle.tar")
    argv = ["nydus-agent", "--format", "json", "artifacts", "install", "--from", "/var/tmp/bundle.tar"]
    return node.run(argv, check=False, timeout=PATIENCE_S)


def test_the_package_installs_and_its_daemon_watches(node: Node) -> None:
    assert node.run(["uname", "--machine"]).stdout == "aarch64\n"
    assert node.run(["dpkg", "--print-architecture"]).stdout == "arm64\n"
    assert node.run(["systemctl", "is-active", "nydus-agent", "containerd"]).stdout.split() == ["active", "active"]
    told = node.run(["nydus-agent", "--format", "json", "status"], check=False, timeout=PATIENCE_S)
    assert json.loads(told.stdout)["daemon"]["route"] == "origin"
    assert [unit for unit in node.failed_units() if unit.startswith("nydus")] == []


def test_programs_for_another_architecture_are_refused_and_nothing_is_installed(node: Node, tmp_path: Path) -> None:
    foreign = tmp_path / "amd64"
    upstream.write_lock(foreign, *upstream.release(foreign, upstream.built(), Arch.AMD64))
    done = install(node, make_bundle(foreign))
    assert (done.returncode, json.loads(done.stdout)["code"]) == (2, "NNA1107")

    # A lock that calls them arm64: their own first bytes say what they are.
    lying = tmp_path / "lying"
    upstream.write_lock(lying, *upstream.release(lying, upstream.built(), Arch.ARM64))
    done = install(node, make_bundle(lying))
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, "NNA1120")
    assert not node.exists(f"{STORE}/current")


def test_programs_for_arm64_come_from_a_bundle_and_tell_their_versions(node: Node, release: Path) -> None:
    done = install(node, make_bundle(release))
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = {
        program.name: program.sha256
        for artifact in upstream.read_lock(release).artifacts
        for program in artifact.programs
    }
    for name, digest in wanted.items():
        assert node.run(["sha256sum", f"{STORE}/current/{name}"]).stdout.split()[0] == digest
    for name in ("nydusd", "nydus-image"):  # a build from the crate knows no version of its own, but its compiler
        assert "Rustc: \t\trustc" in node.run([f"{STORE}/current/{name}", "--version"]).stdout
    assert "v0.16.1" in node.run([f"{STORE}/current/containerd-nydus-grpc", "--version"]).stdout
    which = node.run(["nydus-agent", "artifacts", "which", "nydusd"], check=False, timeout=PATIENCE_S)
    assert STORE in which.stdout


def test_the_package_for_air_gapped_nodes_is_taken_for_its_own_architecture_only(
    node: Node, release: Path, tmp_path: Path
) -> None:
    lock = upstream.write_lock(release, *upstream.read_lock(release).artifacts, serial=upstream.SERIAL + 1)
    done = bundled.make(lock, release, Arch.ARM64)
    assert done.returncode == 0, done.stderr
    node.push(scene.REPOSITORY / done.stdout.strip(), "/var/tmp/arm64.deb")
    node.push(bundled.build(tmp_path), "/var/tmp/amd64.deb")
    refused = node.run(["dpkg", "--install", "/var/tmp/amd64.deb"], check=False)
    assert "package architecture (amd64) does not match system (arm64)" in refused.stderr
    node.run(["dpkg", "--install", "/var/tmp/arm64.deb"], timeout=PATIENCE_S)
    assert not node.exists("/var/lib/nydus-node-agent-artifacts/pending")


@pytest.fixture
def runnable(node: Node, tmp_path: Path) -> Path:
    """A bundle whose nydusd also runs where the machine lets nobody raise a limit of open files."""
    contents = {name: dict(programs) for name, programs in arm64.programs().items()}
    if not node.machine.sys_resource:
        nydus = contents[ArtifactName.NYDUS]
        node.push(nydus["nydusd"], "/usr/local/libexec/nydusd.real")
        nydus["nydusd"] = arm64.wrapper()
    made = upstream.release(tmp_path, contents, Arch.ARM64)
    upstream.write_lock(tmp_path, *made, serial=upstream.SERIAL + 2)
    return make_bundle(tmp_path)


def test_a_change_is_applied_and_proved_as_far_as_emulation_goes(node: Node, runnable: Path) -> None:
    """A nydusd of the store serves a mount, and checks 1 to 7; no mirror is here, and no container for the others."""
    assert install(node, runnable).returncode == 0
    planned = node.run(["nydus-agent", "--format", "json", "plan"], check=False, timeout=PATIENCE_S)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert STORE in planned.stdout
    applied = node.run(["nydus-agent", "apply"], check=False, timeout=PATIENCE_S)
    assert applied.returncode == 3, applied.stdout + applied.stderr

    checks = json.loads(node.read("/var/lib/nydus-agent/proof.json"))["checks"]
    results = {check["number"]: check["state"] for check in checks}
    assert results == {**dict.fromkeys(range(1, 8), "ok"), 8: "not-proved", 9: "failed", 10: "not-proved"}
    assert json.loads(node.read("/var/lib/nydus-agent/effective.json"))["switch"] == "native"
    assert node.run(["systemctl", "is-active", "nydus-snapshotter", "containerd"]).stdout.split() == ["active"] * 2
