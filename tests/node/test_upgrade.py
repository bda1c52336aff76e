"""Ours, nydusd and the snapshotter are upgraded while a container reads: it sees no error, and mounts
stay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import ANY_CHANGE
from tests.node.repack import as_version

pytestmark = pytest.mark.allow_warnings(*ANY_CHANGE)

NYDUSD = "/usr/local/bin/nydusd"
SNAPSHOTTER = "/usr/local/bin/containerd-nydus-grpc"
NEWER = """\
#!/bin/sh
case "$1" in --version) printf 'Version: \\tv2.2.9\\nGit Commit: \\tfeedbeef\\n'; exit;; esac
exec {former} "$@"
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged("reader-nydus", "python-nydus") as made:
        scene.pull(made.node, made.ref("reader-nydus"))
        yield made


@pytest.fixture
def reader(stage: scene.Stage) -> Iterator[scene.Reader]:
    """Its reads are checked once more after the test."""
    with scene.Reader(stage.node, stage.ref("reader-nydus")) as made:
        made.wait_for(5)
        yield made
        made.wait_for(5)
        assert made.errors() == []


def generation(node: Node) -> int:
    return int(scene.agent_json(node, "status")["effective"]["generation"])


def nydusds(node: Node) -> str:
    return node.run("pgrep --full '[n]ydusd.* fuse ' | sort || true").stdout


def replace(node: Node, path: str, content: str | bytes) -> None:
    """As dpkg does it: the new file under another name, then a rename; what runs goes on with the old one."""
    node.write(f"{path}.dpkg-new", content, mode=0o755)
    node.run(["mv", f"{path}.dpkg-new", path])


def test_an_unattended_upgrade_of_our_package_moves_no_read(
    stage: scene.Stage, reader: scene.Reader, tmp_path: Path
) -> None:
    """While fenced: test_fenced_life."""
    node = stage.node
    others = {unit: node.main_pid(unit) for unit in ("containerd", "nydus-snapshotter")}
    ours, applied, began = node.main_pid("nydus-agent"), generation(node), time.time()
    done = node.install_deb(as_version(scene.deb(), "9.1", tmp_path))
    assert "Configuration file" not in done.stdout
    assert {unit: node.main_pid(unit) for unit in others} == others
    assert node.main_pid("nydus-agent") != ours
    reader.wait_for(10)
    assert scene.route(node) == "mirror"
    moves = [entry for entry in scene.daemon_status(node)["history"] if entry["at"] >= began]
    assert [entry for entry in moves if entry["route_from"] != entry["route"] and entry["to"] == "down"] == []
    assert generation(node) == applied, "the change that on_install orders finds nothing to do"
    print(f"upgrade: slowest read {reader.slowest_ms(began):.0f} ms")


def test_a_new_nydusd_serves_new_mounts_and_the_running_ones_keep_theirs(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    node = stage.node
    node.run(["cp", "--archive", NYDUSD, f"{NYDUSD}.former"])
    before, snapshotter = nydusds(node), node.main_pid("nydus-snapshotter")
    replace(node, NYDUSD, NEWER.format(former=f"{NYDUSD}.former"))
    plan = scene.agent(node, "plan").stdout
    assert "mounts that run keep their nydusd over the snapshotter's restart, new ones get v2.2.9" in plan
    assert 'upgrades nydusd in flight only where its recover_policy is "failover"' in plan
    applied = scene.agent(node, "apply", check=False)
    assert applied.returncode in (0, 3), applied.stdout + applied.stderr
    assert node.main_pid("nydus-snapshotter") != snapshotter, (
        "a new version is a change, which the plan has told"
    )
    assert set(before.split()) <= set(nydusds(node).split())
    assert scene.start_nydus(node, stage.ref("python-nydus")).output == "hello from python\n"
    assert "2.2.9" in scene.agent_json(node, "doctor")["versions"]["nydusd"]


def test_a_new_snapshotter_keeps_mounts_and_upgrades_no_nydusd_behind_our_back(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    """Since 0.15.4 a starting snapshotter replaces each nydusd of another commit than the one in PATH, in
    flight, where its recover policy is "failover". Ours is "restart": what runs goes on.
    """
    node = stage.node
    content = node.inside(SNAPSHOTTER).read_bytes()
    before, was = nydusds(node), node.main_pid("nydus-snapshotter")
    replace(node, SNAPSHOTTER, content + b"\0")
    began = time.time()
    node.run(["systemctl", "restart", "nydus-snapshotter"])
    reader.wait_for(10)
    assert node.main_pid("nydus-snapshotter") != was
    assert set(before.split()) <= set(nydusds(node).split())
    assert scene.start_nydus(node, stage.ref("python-nydus")).output == "hello from python\n"
    states = {check["number"]: check["state"] for check in scene.agent_json(node, "doctor")["checks"]}
    assert set(states.values()) == {"ok"}, scene.agent(node, "doctor", check=False).stdout
    print(f"snapshotter restart: slowest read {reader.slowest_ms(began):.0f} ms")
