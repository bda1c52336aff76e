"""Where `nydus-agent artifacts install` takes archives from, and what it needs for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ArtifactError, Exit
from tests.unit.artifact_node import store
from tests.unit.test_artifact_provide import Place
from tests.unit.test_cli_artifacts import CURRENT, Asked, with_lock


@pytest.fixture
def place() -> Place:
    return with_lock()


def empty(place: Place) -> None:
    """The store, so that something must be fetched."""
    for one in store(place.node).sets():
        del store(place.node)._sets[one.id]


def test_a_directory_a_mirror_and_a_bundle_are_told_apart(place: Place, tmp_path: Path) -> None:
    kinds = []
    for source in (str(tmp_path), "https://mirror.example.org/nydus", str(tmp_path / "bundle.tar"), ""):
        Asked(place, "install", *(("--from", source) if source else ()))
        kinds.append(place.node.downloads.jobs[-1].source.kind.value)
        empty(place)
    assert kinds == ["directory", "mirror", "bundle", "release"]
    with pytest.raises(ArtifactError) as error:
        Asked(place, "install", "--from", "ftp://mirror.example.org")
    assert error.value.code == "NNA1122"


def test_the_credential_goes_to_base_url_alone(place: Place) -> None:
    place.node.files.put("/etc/mirror.auth", b"Bearer abc\n", mode=0o600)
    own = replace(CURRENT.artifacts, base_url="https://mirror.example.org", credential="/etc/mirror.auth")
    wanted = replace(CURRENT, artifacts=own)
    Asked(place, "install", wanted=wanted)
    assert place.node.downloads.jobs[-1].source.authorization == "Bearer abc"
    Asked(place, "install", "--nydus", "2.4.3", "--from", "https://other.example.org", wanted=wanted)
    assert place.node.downloads.jobs[-1].source.authorization == ""
    empty(place)
    for content, mode in ((b"Bearer abc\n", 0o640), (b"", 0o600), (b"a\nb\n", 0o600), (b"\xff", 0o600)):
        place.node.files.put("/etc/mirror.auth", content, mode=mode)
        with pytest.raises(ArtifactError) as error:
            Asked(place, "install", wanted=wanted)
        assert error.value.code == "NNA1122"
        assert "abc" not in str(error.value)


PEM = b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"


def test_the_ca_is_for_base_url_alone(place: Place) -> None:
    place.node.files.put("/etc/site.pem", PEM)
    own = replace(CURRENT.artifacts, base_url="https://mirror.example.org", ca="/etc/site.pem")
    wanted = replace(CURRENT, artifacts=own)
    Asked(place, "install", wanted=wanted)
    assert place.node.downloads.jobs[-1].source.ca == PEM.decode()
    Asked(place, "install", "--nydus", "2.4.3", "--from", "https://other.example.org", wanted=wanted)
    assert place.node.downloads.jobs[-1].source.ca == ""
    empty(place)
    for content, cause in ((b"a key", "no certificate"), (PEM + b"\xff", "no certificate"), (PEM * 9000, "longer")):
        place.node.files.put("/etc/site.pem", content)
        with pytest.raises(ArtifactError, match=r"the CA /etc/site\.pem cannot be used") as error:
            Asked(place, "install", wanted=wanted)
        assert (error.value.code, cause in error.value.cause) == ("NNA1122", True)
    place.node.files.drop("/etc/site.pem")
    with pytest.raises(ArtifactError, match=r"the CA /etc/site\.pem cannot be used"):
        Asked(place, "install", wanted=wanted)


def test_who_fetches_nothing_from_base_url_needs_neither_its_credential_nor_its_ca(
    place: Place, tmp_path: Path
) -> None:
    mirror = "https://mirror.example.org"
    own = replace(CURRENT.artifacts, base_url=mirror, credential="/etc/gone.auth", ca="/etc/gone.pem")
    wanted = replace(CURRENT, artifacts=own)
    for version, source in (("2.4.3", str(tmp_path)), ("2.4.4", "https://other.example.org")):
        assert Asked(place, "install", "--nydus", version, "--from", source, wanted=wanted).exit is Exit.OK
    assert "is there already" in Asked(place, "install", wanted=wanted).text
    empty(place)
    with pytest.raises(ArtifactError) as error:
        Asked(place, "install", wanted=wanted)
    assert (error.value.code, "/etc/gone.auth" in error.value.what) == ("NNA1122", True)
