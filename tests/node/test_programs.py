"""The nydus programs as packages on a node that has none: made there, installed by apt, applied, upgraded,
purged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.programs.versions import Project
from tests.node import images, parts, releases_host, scene
from tests.node.boot import Node
from tests.node.change import ANY_CHANGE, NO_CHANGE

pytestmark = pytest.mark.allow_warnings(*ANY_CHANGE, r"ERROR this build does not work here")

PROGRAMS = "/usr/lib/nydus-agent/programs"
SITE = NO_CHANGE.replace("[apply]\n", "[apply]\nrestarts_per_hour = 60\n")
NYDUS, SNAPSHOTTER = Project.NYDUS, Project.SNAPSHOTTER
OLD, NEW, BROKEN = "2.2.0", "2.2.1", "2.2.3"


def rendered(node: Node) -> str:
    return node.read("/etc/nydus/snapshotter.toml") + node.read(
        "/etc/systemd/system/nydus-snapshotter.service"
    )


def listed(node: Node) -> dict[str, tuple[bool, bool]]:
    """package -> (the node is set up with it, the next apply takes it)."""
    packages = scene.agent_json(node, "programs", "list")["packages"]
    return {one["package"]: (one["applied"], one["chosen"]) for one in packages}


def set_the_scene(node: Node) -> parts.Registry:
    """Registry, mirror and images; no nydus program anywhere."""
    registry = parts.start_registry(node)
    parts.start_mirror(node)
    for name in ("reader-nydus", "python-nydus"):
        images.push(node, name, f"{registry.host}/{name}:1")
    images.load_pause(node)
    assert node.run("command -v nydusd nydus-image containerd-nydus-grpc || true").stdout == ""
    return registry


class Place:
    """A node whose programs come from packages that were made on it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.registry = set_the_scene(node)
        scene.install_only(node, SITE)
        self.refused = scene.agent(node, "apply", check=False)
        releases = (
            releases_host.publish(node, NYDUS, OLD, releases_host.nydus(node)),
            releases_host.publish(node, SNAPSHOTTER, "0.16.1", releases_host.snapshotter()),
        )
        self.packages = releases_host.package(node, *releases)
        node.apt("install", *self.packages)
        self.apply()

    def ref(self, name: str) -> str:
        return f"{self.registry.host}/{name}:1"

    def apply(self, code: int = 0) -> str:
        done = scene.agent(self.node, "apply", check=False)
        assert done.returncode in ({0, 3} if code == 0 else {code}), done.stdout + done.stderr
        return done.stdout + done.stderr

    def purge(self, package: str) -> str:
        done = self.node.apt("purge", package)
        return done.stdout + done.stderr  # apt gives dpkg's scripts a terminal

    def runs_nydusd(self, version: str) -> None:
        assert f"{PROGRAMS}/nydus-{version}/nydusd" in rendered(self.node)
        assert scene.start_nydus(self.node, self.ref("python-nydus")).output == "hello from python\n"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Node(nydus=False, snapshotter="none") as node:
        yield Place(node)


@pytest.fixture(scope="module")
def reader(place: Place) -> Iterator[scene.Reader]:
    """It reads through everything that these tests do."""
    scene.pull(place.node, place.ref("reader-nydus"))
    with scene.Reader(place.node, place.ref("reader-nydus")) as made:
        made.wait_for(5)
        yield made
        assert made.errors() == []


def test_packages_bring_the_programs_and_a_container_runs(place: Place, reader: scene.Reader) -> None:
    node = place.node
    assert (place.refused.returncode, "NNA0201" in place.refused.stderr) == (2, True)
    assert listed(node) == {
        "nydus-programs-2.2.0": (True, True),
        "nydus-snapshotter-programs-0.16.1": (True, True),
    }
    assert rendered(node).count(f"{PROGRAMS}/") == 3
    place.runs_nydusd(OLD)
    verified = node.run(
        ["dpkg", "--verify", "nydus-programs-2.2.0", "nydus-snapshotter-programs-0.16.1"], check=False
    )
    assert [
        line for line in verified.stdout.splitlines() if "/usr/share/doc/" not in line
    ] == []  # dpkg leaves it out
    assert node.run(["find", PROGRAMS, "-perm", "/022", "-o", "!", "-user", "root"]).stdout == ""
    reader.wait_for(5)


def test_the_same_lock_gives_the_same_bytes(place: Place) -> None:
    node = place.node
    before = node.run(["sha256sum", *place.packages]).stdout
    options = ["--lock", "artifacts.lock.toml", "--from", releases_host.PLACE]
    command = f"umask 077; cd {releases_host.PACKAGES}; nydus-agent programs package {' '.join(options)}"
    node.run(command, timeout=300)
    assert node.run(["sha256sum", *place.packages]).stdout == before


def test_a_newer_package_waits_for_apply_which_restarts_the_snapshotter_alone(
    place: Place, reader: scene.Reader
) -> None:
    node = place.node
    before, since = rendered(node), json.loads(node.read("/var/lib/nydus-agent/proof.json"))["at"]
    pids = {unit: node.main_pid(unit) for unit in ("containerd", "nydus-snapshotter")}
    assert releases_host.install(node, NYDUS, NEW, releases_host.nydus(node, b"\0")) == "nydus-programs-2.2.1"
    assert (rendered(node), node.main_pid("nydus-snapshotter")) == (before, pids["nydus-snapshotter"])
    assert listed(node)["nydus-programs-2.2.0"] == (True, False)
    assert listed(node)["nydus-programs-2.2.1"] == (False, True)

    def told() -> bool:
        proof = json.loads(node.read("/var/lib/nydus-agent/proof.json"))
        return proof["at"] > since and any("snapshotter.toml" in one for one in proof["pending"])

    node.wait_until(told, 60, "an inspection has told that apply would change something")
    place.apply()
    place.runs_nydusd(NEW)
    assert node.main_pid("nydus-snapshotter") != pids["nydus-snapshotter"]
    assert node.main_pid("containerd") == pids["containerd"]
    reader.wait_for(10)


def test_rollback_goes_back_to_the_version_before_and_apply_to_the_newest(
    place: Place, reader: scene.Reader
) -> None:
    done = scene.agent(place.node, "rollback", check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    place.runs_nydusd(OLD)
    place.apply()
    place.runs_nydusd(NEW)
    reader.wait_for(5)


def test_a_version_that_is_named_is_taken_or_refused_with_the_command(place: Place) -> None:
    node = place.node
    try:
        node.write("/etc/nydus-agent/conf.d/60-programs.toml", f'[programs]\nnydus = "{OLD}"\n')
        assert f"nydus-{OLD}/nydusd" in scene.agent(node, "plan").stdout
        node.write("/etc/nydus-agent/conf.d/60-programs.toml", '[programs]\nnydus = "9.9.9"\n')
        refused = scene.agent(node, "plan", check=False)
        assert (refused.returncode, "NNA0201" in refused.stderr) == (2, True)
        assert "sudo apt install nydus-programs-9.9.9" in refused.stderr
    finally:
        node.run(["rm", "/etc/nydus-agent/conf.d/60-programs.toml"])


def test_a_newer_nydusd_that_cannot_serve_is_proved_bad_and_taken_back(
    place: Place, reader: scene.Reader, tmp_path: Path
) -> None:
    node = place.node
    before = rendered(node)
    programs = {**releases_host.nydus(node), "nydusd": releases_host.broken(tmp_path)}
    assert releases_host.install(node, NYDUS, BROKEN, programs) == "nydus-programs-2.2.3"
    told = place.apply(1)
    assert "NNA0731" in told
    assert "the node is as it was before" in told
    assert rendered(node) == before
    place.runs_nydusd(NEW)
    node.apt("purge", "nydus-programs-2.2.3")
    assert "nothing to do" in place.apply()
    reader.wait_for(10)


def test_purging_the_old_version_breaks_nothing_that_runs_on_it(place: Place, reader: scene.Reader) -> None:
    node = place.node
    assert "this node is set up" not in place.purge("nydus-programs-2.2.0")
    assert not node.exists(f"{PROGRAMS}/nydus-{OLD}")
    reader.wait_for(10)
    place.runs_nydusd(NEW)
    found = scene.agent_json(node, "doctor")["drift"]
    if node.machine.sys_resource:  # elsewhere nydusd is a program beside the package
        assert any("nydusd still run a program that was replaced or removed" in one for one in found), found
    else:
        assert found == []


def test_purging_the_version_in_use_says_so_and_ends_nothing_that_runs(
    place: Place, reader: scene.Reader
) -> None:
    node = place.node
    assert "this node is set up with these programs" in place.purge("nydus-programs-2.2.1")
    reader.wait_for(10)
    doctor = scene.agent(node, "doctor", check=False)
    assert doctor.returncode != 0
    assert f"{PROGRAMS}/nydus-{NEW}/nydusd is gone: nydus-programs-2.2.1 was removed" in doctor.stdout
    node.apt("install", f"{releases_host.PACKAGES}/nydus-programs-2.2.1_2.2.1_amd64.deb")
    assert "nothing to do" in place.apply()
    place.runs_nydusd(NEW)


def test_packages_alone_set_a_node_up_in_one_installation(place: Place, tmp_path: Path) -> None:
    """Of a fleet, without a network: our package and two of programs, and a configuration that orders the
    change.
    """
    packages = [shutil.copy(place.node.inside(path), tmp_path) for path in place.packages]
    with Node(nydus=False, snapshotter="none") as node:
        registry = set_the_scene(node)
        releases_host.nydus(node)  # what a wrapper in the package runs
        node.write("/etc/nydus-agent/conf.d/50-site.toml", scene.HTTP_SITE)
        for path in map(Path, (scene.deb(), *packages)):
            node.push(path, f"/var/tmp/{path.name}", mode=0o644)
        node.apt("install", *(f"/var/tmp/{Path(path).name}" for path in (scene.deb(), *packages)))
        scene.await_change(node, 120)
        assert scene.start_nydus(node, f"{registry.host}/python-nydus:1").output == "hello from python\n"


def test_removal_leaves_the_packages_and_purge_takes_them(place: Place, reader: scene.Reader) -> None:
    node = place.node
    reader.stop()
    removed = node.apt("remove", "nydus-node-agent").stdout
    assert "stays: nydus-programs-2.2.1 nydus-snapshotter-programs-0.16.1: programs" in removed
    node.apt("purge", "nydus-node-agent", "nydus-programs-2.2.1", "nydus-snapshotter-programs-0.16.1")
    left = "find / /var/lib -xdev \\( -name '*nydus-agent*' -o -name 'nydus-snapshotter.service' \\)"
    kept = [
        line for line in node.run(left).stdout.splitlines() if not line.startswith(("/var/log/", "/var/tmp/"))
    ]
    assert kept == []
