"""`nydus-agent artifacts bundle` as it answers."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from agent.adapters.artifact_bundle import BundleFiles
from agent.artifacts.lock import render
from agent.commands import artifacts_bundle
from agent.commands.context import Context
from agent.console import Console, Format
from agent.errors import ArtifactError, Exit, UsageError
from tests.unit.test_artifact_bundle import ARTIFACTS, LOCK, fill
from tests.unit.test_schema import complaints


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a lock and the archives that it pins."""
    fill(tmp_path / "archives")
    (tmp_path / "my.lock.toml").write_bytes(render(LOCK))
    return tmp_path


def _run(place: Path, *more: str, form: Format = Format.TEXT) -> tuple[Exit, str, str]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    artifacts_bundle.add_arguments(parser)
    words = ["--lock", str(place / "my.lock.toml"), "--from", str(place / "archives"), "-o", str(place / "out.tar")]
    out, err = io.StringIO(), io.StringIO()
    code = artifacts_bundle.run(parser.parse_args([*words, *more]), Context(Console(out, err, form), uid=1000))
    return code, out.getvalue(), err.getvalue()


def test_one_command_makes_what_a_node_without_a_network_installs_from(place: Path) -> None:
    code, told, beside = _run(place)
    assert code is Exit.OK
    assert BundleFiles("/").read(str(place / "out.tar")).lock == LOCK
    assert f"nydus-agent artifacts install --from {place}/out.tar" in told
    assert [line for line in beside.splitlines() if "as in the lock" in line] == beside.splitlines()
    assert len(beside.splitlines()) == len(ARTIFACTS)


def test_only_the_architectures_that_were_asked_for_are_inside(place: Path) -> None:
    _run(place, "--arch", "arm64")
    assert BundleFiles("/").read(str(place / "out.tar")).lock.artifacts == ARTIFACTS[1:]
    _run(place, "--arch", "amd64,arm64")
    assert BundleFiles("/").read(str(place / "out.tar")).lock.artifacts == ARTIFACTS


def test_an_architecture_that_nobody_builds_for_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'sparc' is not one of amd64, arm64"):
        artifacts_bundle.architectures("amd64,sparc")


def test_without_a_lock_nothing_is_put_together(place: Path) -> None:
    (place / "my.lock.toml").unlink()
    with pytest.raises(ArtifactError) as raised:
        _run(place)
    assert raised.value.code == "NNA1101"
    with pytest.raises(ArtifactError) as raised:
        _run(place, "--lock", "")
    assert raised.value.code == "NNA1110"
    assert not (place / "out.tar").exists()


@pytest.mark.parametrize("source", ["", "https://mirror.example.org"])
def test_only_root_may_have_archives_downloaded(place: Path, source: str) -> None:
    with pytest.raises(UsageError) as raised:
        _run(place, "--from", source)
    assert raised.value.code == "NNA1001"


def test_a_directory_that_is_not_there_is_not_taken_for_something_else(place: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be used as a source") as raised:
        _run(place, "--from", str(place / "gone"))
    assert raised.value.code == "NNA1122"


def test_programs_read_the_answer_as_described(place: Path) -> None:
    _, told, _ = _run(place, form=Format.JSON)
    document = json.loads(told)
    assert complaints(document) == []
    assert [item["archive"] for item in document["artifacts"]] == [artifact.archive for artifact in ARTIFACTS]
