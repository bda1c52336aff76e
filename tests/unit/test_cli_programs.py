"""`nydus-agent programs`: what each action does, prints and refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main
from agent.commands import programs
from agent.commands.context import Context
from agent.console import Console, Format
from agent.errors import Exit
from agent.facts.node import Arch
from agent.node import installed
from agent.programs.lock import parse
from agent.programs.versions import Project
from tests.fakes.node import FakeNode
from tests.fakes.programs import NYDUS, SNAPSHOTTER, config, contents, install
from tests.node import upstream
from tests.unit import plan_node
from tests.unit.test_schema import complaints


class Place:
    """A directory of releases, and the verb as any user runs it in another."""

    def __init__(self, tmp_path: Path) -> None:
        self.archives, self.work = tmp_path / "archives", tmp_path / "work"
        self.work.mkdir()
        self.lock = self.work / "artifacts.lock.toml"

    def publish(self, project: Project, version: str, arch: Arch = Arch.AMD64, build: str = "") -> None:
        held = contents(project, version + build, arch)
        upstream.packed(project, held, version, arch).lay(self.archives)

    def run(self, action: str, *options: str, code: int = 0) -> str:
        out, err = io.StringIO(), io.StringIO()
        output = self.lock if action == "lock" else self.work
        words = ["--from", str(self.archives), "-o", str(output), *options]
        ended = main(["programs", action, *words], environment={}, out=out, err=err, uid=65534)
        assert ended == code, out.getvalue() + err.getvalue()
        return out.getvalue() + err.getvalue()

    def json(self, action: str, *options: str, code: int = 0) -> dict[str, Any]:
        out = io.StringIO()
        output = self.lock if action == "lock" else self.work
        words = ["--from", str(self.archives), "-o", str(output), "--format", "json", *options]
        ended = main(["programs", action, *words], environment={}, out=out, err=io.StringIO(), uid=65534)
        assert ended == code, out.getvalue()
        document: dict[str, Any] = json.loads(out.getvalue())
        assert complaints(document) == []
        return document

    def pinned(self) -> list[str]:
        return [str(one) for one in parse(self.lock.read_bytes(), "lock").release]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    for arch in (Arch.AMD64, Arch.ARM64):
        made.publish(NYDUS, "2.4.4", arch)
        made.publish(SNAPSHOTTER, "0.16.1", arch)
    return made


BOTH = ("--nydus", "2.4.4", "--snapshotter", "v0.16.1", "--arch", "amd64")


def test_lock_and_package_make_packages_of_what_the_releases_hold(place: Place) -> None:
    made = place.json("lock", *BOTH)
    assert place.pinned() == ["nydus 2.4.4 (amd64)", "nydus-snapshotter 0.16.1 (amd64)"]
    assert [one["version"] for one in made["releases"]] == ["2.4.4", "0.16.1"]
    packages = place.json("package", "--lock", str(place.lock))["packages"]
    assert [Path(one["path"]).name for one in packages] == [
        "nydus-programs-2.4.4_2.4.4_amd64.deb",
        "nydus-snapshotter-programs-0.16.1_0.16.1_amd64.deb",
    ]
    assert all(Path(one["path"]).stat().st_size == one["size"] for one in packages)


def test_what_people_read_has_the_digests(place: Place) -> None:
    text = place.run("lock", *BOTH)
    (one, _) = parse(place.lock.read_bytes(), "lock").release
    assert f"nydus 2.4.4 (amd64): {one.size} bytes, sha256 {one.sha256}\n  nydusd, nydus-image\n" in text
    text = place.run("package", "--lock", str(place.lock), "--nydus", "2.4.4")
    assert f"{place.work}/nydus-programs-2.4.4_2.4.4_amd64.deb: " in text
    assert "snapshotter-programs" not in text


def test_a_second_lock_adds_to_the_first_and_changes_nothing_in_it(place: Place) -> None:
    place.run("lock", *BOTH)
    first = parse(place.lock.read_bytes(), "lock")
    place.publish(NYDUS, "2.4.5")
    place.run("lock", "--nydus", "2.4.5", "--nydus", "2.4.5", "--arch", "amd64")
    place.run("lock", "--nydus", "2.4.4", "--arch", "arm64", "--arch", "amd64")
    assert place.pinned() == [
        "nydus 2.4.4 (amd64)", "nydus 2.4.4 (arm64)", "nydus 2.4.5 (amd64)",
        "nydus-snapshotter 0.16.1 (amd64)",
    ]  # fmt: skip
    assert set(first.release) < set(parse(place.lock.read_bytes(), "lock").release)
    assert place.lock.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in place.work.iterdir()] == ["artifacts.lock.toml"]


def test_a_release_that_changed_since_it_was_pinned_is_refused(place: Place) -> None:
    place.run("lock", *BOTH)
    before = place.lock.read_bytes()
    place.publish(NYDUS, "2.4.4", build="other")
    assert place.json("lock", *BOTH, code=1)["code"] == "NNA1115"
    assert place.lock.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code", "ended"),
    [
        ((), "NNA1002", 2),
        (("--nydus", "2.4"), "NNA1002", 2),
        (("--nydus", "2.0.1"), "NNA1101", 2),
        (("--nydus", "3.0.0"), "NNA1101", 2),
        (("--snapshotter", "0.13.5"), "NNA1101", 2),
        (("--nydus", "2.4.9"), "NNA1111", 1),
        (("--nydus", "2.4.4", "--from", "/nowhere"), "NNA1101", 2),
        (("--nydus", "2.4.4", "-o", "/nowhere/lock.toml"), "NNA1111", 1),
    ],
)
def test_what_cannot_be_pinned_is_refused(
    place: Place, options: tuple[str, ...], code: str, ended: int
) -> None:
    assert place.json("lock", *options, "--arch", "amd64", code=ended)["code"] == code
    assert not place.lock.exists()


def test_an_archive_that_is_not_what_the_file_beside_it_says_is_not_pinned(place: Place) -> None:
    archive = place.archives / "nydus-static-v2.4.4-linux-amd64.tgz"
    archive.write_bytes(b"evil")
    assert place.json("lock", *BOTH, code=1)["code"] == "NNA1115"
    assert not place.lock.exists()


@pytest.mark.parametrize(
    ("content", "options", "code"),
    [
        (None, (), "NNA1101"),
        ("version = 1\nserial = 3\n", (), "NNA1101"),
        ("version = 1\n", (), "NNA1101"),
        ("version = 1\n", ("--nydus", "2.4.5"), "NNA1101"),
    ],
)
def test_a_lock_that_cannot_be_used_makes_no_package(
    place: Place, content: str | None, options: tuple[str, ...], code: str
) -> None:
    if content is not None:
        place.lock.write_text(content)
    document = place.json("package", "--lock", str(place.lock), *options, code=2)
    assert document["code"] == code


class Listed:
    """What `programs list` tells of a node of fakes."""

    def __init__(self, node: FakeNode, nydus: str = "newest") -> None:
        seen = installed.read_installed(config(nydus), node.ports)
        self.code, self.text = self._shown(node, seen, Format.TEXT)
        _, told = self._shown(node, seen, Format.JSON)
        self.json: dict[str, Any] = json.loads(told)
        assert complaints(self.json) == []

    def _shown(self, node: FakeNode, seen: installed.Programs, form: Format) -> tuple[Exit, str]:
        out = io.StringIO()
        code = programs.show(Context(Console(out, out, form), uid=0), seen, node.files)
        return code, out.getvalue()


def test_list_tells_what_is_used_what_is_installed_and_what_apply_takes() -> None:
    node = plan_node.node()
    old = install(node, NYDUS, "2.4.3")
    install(node, NYDUS, "2.4.4")
    node.files.put("/etc/nydus/snapshotter.toml", f'nydusd_path = "{old}/nydusd"\n'.encode())
    listed = Listed(node)
    assert listed.code is Exit.OK
    assert [(one["name"], one["package"]) for one in listed.json["programs"]] == [
        ("nydusd", "nydus-programs-2.4.4"),
        ("nydus-image", "nydus-programs-2.4.4"),
        ("containerd-nydus-grpc", None),
    ]
    assert "nydus-programs-2.4.3  in use; the next apply takes another" in listed.text
    assert "nydus-programs-2.4.4  the next apply takes it" in listed.text
    assert "containerd-nydus-grpc  0.13.4   PATH" in listed.text
    assert "in use" in Listed(node, "2.4.3").text.splitlines()[-1]


def test_list_tells_what_is_not_there_with_exit_3() -> None:
    listed = Listed(plan_node.node(), "2.4.4")
    assert listed.code is Exit.NOT_AS_WANTED
    assert listed.json["missing"][0]["try"] == "sudo apt install nydus-programs-2.4.4"
    assert "error[NNA0201]: nydus is not there" in listed.text
    assert listed.json["programs"][0] == {"name": "nydusd", "path": None, "version": None, "package": None}
