"""Which artifacts are meant, what a set is, and what its record says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.artifacts.lock import ArtifactName, Program
from agent.artifacts.selection import chosen, members, set_id
from agent.artifacts.sets import InstalledSet, Stamp, described, read_record, record, to_prune
from agent.config.forms import is_set_id
from agent.errors import ArtifactError
from agent.node.facts import Arch
from tests.unit.artifacts import NOW, artifact, elf, lock

NYDUS, SNAPSHOTTER = ArtifactName.NYDUS, ArtifactName.SNAPSHOTTER
STORE = "/var/lib/nydus-agent/artifacts"


@pytest.mark.parametrize(
    ("held", "wish", "version"),
    [
        (("v2.4.4", "v2.3.0"), None, "v2.4.4"),
        (("v2.9.0", "v2.10.0"), None, "v2.10.0"),
        (("v2.4.0-rc.1", "v2.4.0", "v2.4.0-rc.10"), None, "v2.4.0"),
        (("v2.4.0-rc.2", "v2.4.0-rc.10"), None, "v2.4.0-rc.10"),
        (("v2.4.4", "v2.3.0"), "2.3.0", "v2.3.0"),
        (("v2.4.4", "v2.3.0"), "v2.3.0", "v2.3.0"),
    ],
)
def test_the_version_that_was_asked_for_is_taken_and_else_the_newest(
    held: tuple[str, ...], wish: str | None, version: str
) -> None:
    holding = lock(*(artifact(version=item) for item in held), artifact(version="v9.0.0", arch=Arch.ARM64))
    (found,) = chosen(holding, Arch.AMD64, {NYDUS: wish})
    assert (found.version, found.arch) == (version, Arch.AMD64)


def test_a_version_that_the_lock_lacks_is_refused_with_what_it_holds() -> None:
    holding = lock(artifact(version="v2.3.0"), artifact(arch=Arch.ARM64), artifact(SNAPSHOTTER, "v0.15.0"))
    with pytest.raises(ArtifactError) as caught:
        chosen(holding, Arch.AMD64, {NYDUS: "2.4.4", SNAPSHOTTER: None})
    assert caught.value.code == "NNA1107"
    assert "nydus v2.4.4 for amd64" in caught.value.what
    assert caught.value.seen == ("nydus v2.3.0 (amd64)", "nydus v2.4.4 (arm64)")


def test_both_archives_bring_an_overlay_helper_and_the_snapshotters_is_taken() -> None:
    nydus = artifact(programs={"nydusd": elf(b"d"), "nydus-overlayfs": elf(b"of nydus")})
    snapshotter = artifact(
        SNAPSHOTTER, "v0.16.1", programs={"containerd-nydus-grpc": elf(b"g"), "nydus-overlayfs": elf(b"of snapshotter")}
    )
    for order in ((nydus, snapshotter), (snapshotter, nydus)):
        found = {member.program.name: member.artifact.name for member in members(order)}
        assert found == {"containerd-nydus-grpc": SNAPSHOTTER, "nydus-overlayfs": SNAPSHOTTER, "nydusd": NYDUS}


@pytest.mark.parametrize(
    "wrong",
    [(), (artifact(), artifact(version="v2.3.0")), (artifact(), artifact(SNAPSHOTTER, "v0.16.1", Arch.ARM64))],
)
def test_artifacts_of_two_architectures_or_twice_the_same_make_no_set(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ArtifactError) as caught:
        members(wrong)
    assert caught.value.code == "NNA1108"


def test_the_same_bytes_are_the_same_set_and_other_bytes_are_another() -> None:
    a, b = Program("nydusd", 1, "a" * 64), Program("nydus-image", 2, "b" * 64)
    name = set_id(Arch.AMD64, (a, b))
    assert is_set_id(name)
    assert set_id(Arch.AMD64, (b, a)) == name
    others = {
        set_id(Arch.ARM64, (a, b)), set_id(Arch.AMD64, (a,)), set_id(Arch.AMD64, (a, replace(b, sha256="c" * 64))),
        set_id(Arch.AMD64, (a, replace(b, name="nydusctl"))),
    }  # fmt: skip
    assert len(others) == 4
    assert name not in others


def installed(version: str = "v2.4.4", days: int = 0) -> InstalledSet:
    return described((artifact(version=version),), STORE, "https://example.org/download", NOW + timedelta(days=days))


def stamps(of: InstalledSet) -> dict[str, Stamp]:
    return {program.name: Stamp(program.size, 17, index) for index, program in enumerate(of.programs)}


def test_a_set_is_read_back_as_it_was_recorded() -> None:
    written = installed()
    assert read_record(record(written, stamps(written)), written.id, STORE) == (written, stamps(written))
    assert written.path("nydusd") == f"{STORE}/{written.id}/nydusd"
    assert written.path("containerd-nydus-grpc") is None
    assert (written.version(NYDUS), written.version(SNAPSHOTTER)) == ("v2.4.4", None)


def test_a_record_that_says_other_than_its_name_is_none() -> None:
    written = installed()
    content = record(written, stamps(written))
    assert read_record(content, installed("v2.3.0").id, STORE) is None
    for path, value in [
        (("arch",), "arm64"), (("version",), 2), (("programs", "nydusd", "sha256"), "0" * 64), (("programs",), []),
        (("programs",), {}), (("made",), "yesterday"), (("artifacts", 0, "name"), "other"), (("artifacts",), 3),
        (("programs", "nydusd"), None),
    ]:  # fmt: skip
        tree: Any = json.loads(content)
        place = tree
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert read_record(json.dumps(tree).encode(), written.id, STORE) is None, path
    without_version: Any = json.loads(content)
    del without_version["version"]
    for broken in (json.dumps(without_version).encode(), content.replace(b'"inode": 0', b'"inode": Infinity')):
        assert read_record(broken, written.id, STORE) is None, broken
    for broken in (b"", b"[]", b"null", content[:-20], b"[" * 100_000, b"\xff"):
        assert read_record(broken, written.id, STORE) is None


def test_pruning_keeps_the_latest_and_all_that_is_needed() -> None:
    sets = [installed(f"v2.{number}.0", days=number) for number in range(5)]
    names = [item.id for item in sets]
    assert [item.id for item in to_prune(sets, 2, frozenset())] == [names[2], names[1], names[0]]
    assert [item.id for item in to_prune(sets, 2, frozenset({names[0], names[4]}))] == [names[2], names[1]]
    assert to_prune(sets, 9, frozenset()) == ()
    assert len(to_prune(sets, 0, frozenset({names[1]}))) == 4
