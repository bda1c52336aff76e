"""nydus-node-agent-artifacts: what `make deb-bundle` makes of a lock and its archives, and what a node gets of it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.artifact_bundle import BundleFiles
from agent.artifacts.lock import ArtifactName, parse, render
from agent.node.facts import Arch
from tests.node import bundled, scene, upstream
from tests.node.boot import Node
from tests.package.deb import in_root

SHARE = "usr/share/nydus-node-agent-artifacts"
PENDING = "/var/lib/nydus-node-agent-artifacts/pending"
UNIT = "nydus-agent-artifacts.service"
STORE = "/var/lib/nydus-agent/artifacts"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this machine's builds; the release is beside it."""
    return bundled.build(tmp_path_factory.mktemp("bundled"))


@pytest.fixture
def node() -> Iterator[Node]:
    """A node without any nydus program."""
    with Node(snapshotter="none", nydus=False) as node:
        yield node


def test_a_package_carries_the_lock_and_the_archives_of_one_architecture_alone(made: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", made, tmp_path], check=True, timeout=60)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert [path for path in files if not path.startswith(("usr/share/doc/", "usr/share/lintian/"))] == [
        "etc/nydus-agent/conf.d/10-artifacts.toml",
        f"usr/lib/systemd/system/{UNIT}",
        f"{SHARE}/artifacts.lock.toml",
        f"{SHARE}/bundle.tar",
    ]
    lock = parse((tmp_path / SHARE / "artifacts.lock.toml").read_bytes(), "lock")
    assert BundleFiles("/").read(str(tmp_path / SHARE / "bundle.tar")).lock == lock
    assert {artifact.name for artifact in lock.artifacts} == set(ArtifactName)
    assert {artifact.arch for artifact in lock.artifacts} == {Arch.AMD64}


def test_the_package_says_what_it_is_for_and_which_agent_it_needs(made: Path) -> None:
    shown = subprocess.run(
        ["dpkg-deb", "--show", "--showformat=${Version} ${Architecture} ${Depends}", made],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert shown == f"{upstream.SERIAL} amd64 nydus-node-agent (>= 0.1.0)"


def test_lintian_has_nothing_to_say_about_it(made: Path) -> None:
    done = in_root(
        "lintian --allow-root --fail-on error,warning --display-info --tag-display-limit 0 build/deb-bundle/*.changes"
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_same_lock_makes_the_same_package_for_another_architecture_too(made: Path) -> None:
    release = made.parent / "release"
    lock = upstream.read_lock(release)
    foreign = [dataclasses.replace(artifact, arch=Arch.ARM64) for artifact in lock.artifacts]
    both = upstream.write_lock(made.parent, *lock.artifacts, *foreign, serial=lock.serial)
    digests = set()
    for _ in range(2):
        done = bundled.make(both, release, Arch.ARM64)
        assert done.returncode == 0, done.stderr
        digests.add(hashlib.sha256((scene.REPOSITORY / done.stdout.strip()).read_bytes()).hexdigest())
    assert len(digests) == 1
    assert done.stdout.strip().endswith("_arm64.deb")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("an archive with other bytes", "is not the lock's nydus v2.2.0"),
        (
            "a program that the archive has with other bytes",
            "does not hold these programs as the lock has them: nydusd",
        ),
        ("an archive that is not there", "No such file"),
        ("an architecture that the lock has not", "the lock holds nothing for arm64"),
        ("archives that are too large", "at most"),
        ("a lock that is none", "version"),
    ],
)
def test_what_no_node_would_install_is_not_packed(how: str, reason: str, made: Path, tmp_path: Path) -> None:
    release = made.parent / "release"
    lock = upstream.read_lock(release)
    archives, arch = tmp_path / "archives", Arch.AMD64
    archives.mkdir()
    for artifact in lock.artifacts:
        os.link(release / artifact.archive, archives / artifact.archive)
    first = archives / lock.artifacts[0].archive
    if how == "an archive with other bytes":
        content = first.read_bytes()
        first.unlink()
        first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "an archive that is not there":
        first.unlink()
    elif how == "an architecture that the lock has not":
        arch = Arch.ARM64
    if how.startswith("a program"):
        wrong = dataclasses.replace(lock.artifacts[0].programs[0], sha256="0" * 64)
        changed = dataclasses.replace(lock.artifacts[0], programs=(wrong, *lock.artifacts[0].programs[1:]))
        lock = dataclasses.replace(lock, artifacts=(changed, *lock.artifacts[1:]))
    if how == "archives that are too large":
        changed = dataclasses.replace(lock.artifacts[0], size=1 << 29)
        lock = dataclasses.replace(lock, artifacts=(changed, *lock.artifacts[1:]))
    path = tmp_path / "lock.toml"
    path.write_bytes(b"serial = 1\n" if how == "a lock that is none" else render(lock))
    done = bundled.make(path, archives, arch)
    assert done.returncode != 0
    assert re.search(re.escape(reason), done.stderr), done.stderr
    assert list((scene.REPOSITORY / "build/deb-bundle").glob("*.deb")) == []


_IMAGE = """
export DEBIAN_FRONTEND=noninteractive
tree() {{ python3 -I /src/tests/package/tree.py; }}
tree >/tmp/before
dpkg --install /src/build/deb/{agent} </dev/null
tree >/tmp/agent
cp /src/build/bundled.deb /tmp/
dpkg --install /tmp/bundled.deb </dev/null
test -e {pending}
test ! -e {store}
test -L /etc/systemd/system/multi-user.target.wants/{unit}
nydus-agent check
dpkg --purge {name} </dev/null
tree >/tmp/after
diff /tmp/agent /tmp/after | grep '^[<>]' | grep -v '/[.]git/' || true
dpkg --purge nydus-node-agent </dev/null
tree >/tmp/after
diff /tmp/before /tmp/after | grep '^[<>]' | grep -v '/[.]git/' || true
"""


def test_an_image_that_is_built_gets_its_programs_at_the_first_boot_and_purging_leaves_it_as_it_was(made: Path) -> None:
    shared = scene.REPOSITORY / "build/bundled.deb"
    shared.write_bytes(made.read_bytes())
    script = _IMAGE.format(agent=scene.deb().name, pending=PENDING, store=STORE, unit=UNIT, name=bundled.NAME)
    done = in_root(script, "root")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("<", ">"))] == []


def _current(node: Node) -> str:
    return node.run(["readlink", f"{STORE}/current"]).stdout.strip()


def _pids(node: Node) -> list[int]:
    return [node.main_pid(unit) for unit in ("containerd.service", "nydus-agent.service")]


def test_installing_both_packages_is_enough_for_a_node_without_a_network(node: Node, made: Path) -> None:
    node.install_deb(scene.deb())
    before = _pids(node)
    node.install_deb(made)
    assert not node.exists(PENDING), node.journal(UNIT)
    lock = upstream.read_lock(made.parent / "release")
    for artifact in lock.artifacts:
        for program in artifact.programs:
            told = node.run(["sha256sum", f"{STORE}/current/{program.name}"]).stdout.split()[0]
            assert told == program.sha256
    assert _pids(node) == before
    assert node.failed_units() == []
    assert "NNA0201" not in node.run(["nydus-agent", "plan"], check=False).stderr


def test_an_upgrade_keeps_the_programs_before_and_a_purge_leaves_nothing(
    node: Node, made: Path, tmp_path: Path
) -> None:
    node.install_deb(scene.deb())
    node.install_deb(made)
    first = _current(node)
    newer = bundled.build(tmp_path, bundled.others(tmp_path / "others"), serial=upstream.SERIAL + 1)
    node.install_deb(newer)
    assert _current(node) != first
    assert node.run(["readlink", f"{STORE}/previous"]).stdout.strip() == first
    assert node.exists(f"{STORE}/{first}/nydusd")

    node.run(["nydus-agent", "artifacts", "rollback"])
    node.reboot()
    assert _current(node) == first, "a boot must not switch back what was chosen since"

    node.apt("purge", bundled.NAME, "nydus-node-agent")
    for path in (STORE, "/var/lib/nydus-agent", "/etc/nydus-agent", "/var/lib/nydus-node-agent-artifacts"):
        assert not node.exists(path), path


def test_a_package_whose_programs_the_node_cannot_take_leaves_dpkg_and_the_node_well(node: Node, made: Path) -> None:
    node.install_deb(scene.deb())
    node.run(["mkdir", "--parents", "--mode=0777", STORE])  # not root's alone: the store cannot be trusted
    done = node.install_deb(made)
    assert f"journalctl -u {UNIT}" in done.stdout + done.stderr
    assert "NNA1131" in node.journal(UNIT)
    assert node.run(["dpkg", "--audit"]).stdout == ""
    node.run(["chmod", "0755", STORE])
    node.reboot()
    assert not node.exists(PENDING), "the next boot tries again"
    assert node.exists(f"{STORE}/current/nydusd")
