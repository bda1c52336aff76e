"""`nydus-agent artifacts lock`: what it pins, and what it refuses to pin."""

from __future__ import annotations

import pytest

from agent.apply import locks
from agent.artifacts import releases
from agent.artifacts.lock import ArtifactName, parse
from agent.console import Format
from agent.errors import ArtifactError, FileError, UsageError
from agent.node.facts import Arch
from tests.unit.artifact_node import contents, store
from tests.unit.test_artifact_provide import BOTH, Place, published
from tests.unit.test_cli_artifacts import Asked


@pytest.fixture
def place() -> Place:
    return Place()


def test_lock_pins_what_the_releases_hold_now(place: Place) -> None:
    published(place)
    output = "/root/new.lock.toml"
    asked = Asked(place, "lock", "--nydus", "2.4.4", "--snapshotter", "v0.16.1", "-o", output, form=Format.JSON)
    made = parse(place.node.files.files[output].content, output)
    assert [str(one) for one in made.artifacts] == ["nydus v2.4.4 (amd64)", "nydus-snapshotter v0.16.1 (amd64)"]
    assert (made.expires - made.made) == locks.LIFETIME
    assert asked.json["serial"] == made.serial
    assert store(place.node).sets() == ()
    text = Asked(place, "lock", "--nydus", "2.4.4", "-o", output, "--expires-in", "30d").text
    later = parse(place.node.files.files[output].content, output)
    assert later.serial > made.serial
    assert "nydusd, nydus-image, nydusctl" in text


def test_lock_for_two_architectures_has_both(place: Place) -> None:
    for arch in (Arch.AMD64, Arch.ARM64):
        wanted = releases.release(ArtifactName.NYDUS, "2.4.4", arch)
        place.node.downloads.publish(wanted, contents(ArtifactName.NYDUS, "v2.4.4", arch))
    Asked(place, "lock", "--nydus", "2.4.4", "--arch", "amd64,arm64", "-o", "/root/two.toml")
    made = parse(place.node.files.files["/root/two.toml"].content, "two")
    assert [one.arch for one in made.artifacts] == [Arch.AMD64, Arch.ARM64]


def test_lock_refuses_a_release_that_changed_since_it_was_pinned(place: Place) -> None:
    published(place)
    words = ("--nydus", "2.4.4", "-o", "/root/new.lock.toml")
    Asked(place, "lock", *words)
    before = place.node.files.snapshot()
    published(place, BOTH, build=b"other")
    with pytest.raises(ArtifactError) as error:
        Asked(place, "lock", *words)
    assert error.value.code == "NNA1124"
    assert place.node.files.snapshot() == before


def test_lock_without_a_version_or_of_a_bundle_is_a_usage_error(place: Place) -> None:
    with pytest.raises(UsageError):
        Asked(place, "lock")
    with pytest.raises(ArtifactError) as error:
        Asked(place, "lock", "--nydus", "2.4.4", "--from", "/root/bundle.tar")
    assert error.value.code == "NNA1122"


def test_a_lock_that_came_during_the_download_is_not_replaced_by_one_that_never_saw_it(place: Place) -> None:
    published(place)
    output, other = "/root/new.lock.toml", b"somebody else's"
    place.node.downloads.meanwhile = lambda: place.node.files.put(output, other)
    with pytest.raises(FileError) as error:
        Asked(place, "lock", "--nydus", "2.4.4", "-o", output)
    assert error.value.code == "NNA0425"
    assert place.node.files.files[output].content == other
