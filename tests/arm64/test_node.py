"""A node for arm64: our package (Architecture: all) on it, packages of the programs for arm64, and a change.

Everything on the node is emulated, so what an arm64 machine has is not all there: no nftables and no
sock_diag (qemu translates no such netlink socket: the mode is native), seccomp, credentials of systemd, and
containers (runc).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.facts.node import Arch
from agent.programs.versions import Project
from tests.node import arm64, emulation, program_packages, scene, upstream
from tests.node.boot import Node

PROGRAMS = "/usr/lib/nydus-agent/programs"
PATIENCE_S = 600.0
"""A Python that is emulated beside other work takes many times as long."""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """With our package, installed by apt; and without any nydus program."""
    with emulation.arm64(), arm64.Arm64Node() as node:
        node.push(scene.deb(), "/var/tmp/agent.deb")
        node.run(["apt-get", "--yes", "--quiet", "install", "/var/tmp/agent.deb"], timeout=PATIENCE_S)
        yield node


def install(node: Node, *packages: Path) -> None:
    for package in packages:
        node.push(package, f"/var/tmp/{package.name}")
    node.run(["dpkg", "--install", *(f"/var/tmp/{package.name}" for package in packages)], timeout=PATIENCE_S)


def test_the_package_installs_and_its_daemon_watches(node: Node) -> None:
    assert node.run(["uname", "--machine"]).stdout == "aarch64\n"
    assert node.run(["dpkg", "--print-architecture"]).stdout == "arm64\n"
    assert node.run(["systemctl", "is-active", "nydus-agent", "containerd"]).stdout.split() == [
        "active",
        "active",
    ]
    told = node.run(["nydus-agent", "--format", "json", "status"], check=False, timeout=PATIENCE_S)
    assert json.loads(told.stdout)["daemon"]["route"] == "origin"
    assert [unit for unit in node.failed_units() if unit.startswith("nydus")] == []


def test_programs_for_another_architecture_are_refused(node: Node) -> None:
    foreign, *_ = program_packages.make("amd64", program_packages.built(), Arch.AMD64)
    node.push(foreign, "/var/tmp/amd64.deb")
    refused = node.run(["dpkg", "--install", "/var/tmp/amd64.deb"], check=False)
    assert "package architecture (amd64) does not match system (arm64)" in refused.stderr

    # A lock that calls them arm64: their own first bytes say what they are.
    done, packages = program_packages.attempt("lying", program_packages.built(), Arch.ARM64)
    assert (done.returncode, "NNA1115" in done.stderr) == (1, True)
    assert "nydusd in it is for amd64, not for arm64" in done.stderr
    assert not any(package.exists() for package in packages)


def test_packages_for_arm64_bring_the_programs_and_they_tell_their_versions(node: Node) -> None:
    programs = arm64.programs()
    install(node, *program_packages.make("arm64", programs, Arch.ARM64))
    places = {project: project.directory(upstream.VERSIONS[project]) for project in Project}
    for project, held in programs.items():
        for name, content in held.items():
            told = node.run(["sha256sum", f"{places[project]}/{name}"]).stdout.split()[0]
            assert told == hashlib.sha256(content).hexdigest()
    for name in (
        "nydusd",
        "nydus-image",
    ):
        # A build from the crate knows no version of its own, but its compiler.
        told = node.run([f"{places[Project.NYDUS]}/{name}", "--version"]).stdout
        assert "Rustc: \t\trustc" in told
    assert "v0.16.1" in node.run([f"{places[Project.SNAPSHOTTER]}/containerd-nydus-grpc", "--version"]).stdout
    listed = node.run(["nydus-agent", "programs", "list"], check=False, timeout=PATIENCE_S)
    assert f"{places[Project.NYDUS]}/nydusd" in listed.stdout


@pytest.fixture
def runnable(node: Node) -> None:
    """A newer nydusd that also runs where the machine lets nobody raise a limit of open files."""
    nydus = dict(arm64.programs()[Project.NYDUS])
    if not node.machine.sys_resource:
        node.write("/usr/local/libexec/nydusd.real", nydus["nydusd"], mode=0o755)
        nydus["nydusd"] = arm64.wrapper().read_bytes()
    install(
        node, *program_packages.make("runnable", {Project.NYDUS: nydus}, Arch.ARM64, {Project.NYDUS: "2.2.1"})
    )


@pytest.mark.usefixtures("runnable")
def test_a_change_is_applied_and_proved_as_far_as_emulation_goes(node: Node) -> None:
    """A nydusd of a package serves a mount, and checks 1 to 7; no mirror is here, and no container for the
    others.
    """
    planned = node.run(["nydus-agent", "--format", "json", "plan"], check=False, timeout=PATIENCE_S)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert f"{PROGRAMS}/nydus-2.2.1/" in planned.stdout
    applied = node.run(["nydus-agent", "apply"], check=False, timeout=PATIENCE_S)
    assert applied.returncode == 3, applied.stdout + applied.stderr

    checks = json.loads(node.read("/var/lib/nydus-agent/proof.json"))["checks"]
    results = {check["number"]: check["state"] for check in checks}
    assert results == {**dict.fromkeys(range(1, 8), "ok"), 8: "not-proved", 9: "failed", 10: "not-proved"}
    assert json.loads(node.read("/var/lib/nydus-agent/effective.json"))["switch"] == "native"
    assert (
        node.run(["systemctl", "is-active", "nydus-snapshotter", "containerd"]).stdout.split()
        == ["active"] * 2
    )
