"""What a proof publishes."""

from __future__ import annotations

import json

import pytest

from agent import paths
from agent.errors import FileChangedError
from agent.proof.proofs import Proof, publish
from tests.fakes.files import FakeFiles


def proof(at: float) -> Proof:
    return Proof(at, ())


def published(files: FakeFiles) -> float:
    return float(json.loads(files.files[paths.PROOF].content)["at"])


def meanwhile(files: FakeFiles, *others: float) -> None:
    """Other proofs are published just before each of the next writes."""
    left = list(others)

    def before_write(path: str) -> None:
        if path == paths.PROOF and left:
            files.put(path, json.dumps({"at": left.pop(0)}).encode())

    files.before_write = before_write


@pytest.mark.parametrize(("others", "stays"), [((19.0,), 20.0), ((21.0,), 21.0), ((18.0, 19.0), 20.0)])
def test_of_proofs_that_end_at_the_same_moment_the_latest_is_published(
    others: tuple[float, ...], stays: float
) -> None:
    files = FakeFiles()
    publish(files, proof(10.0))
    meanwhile(files, *others)
    publish(files, proof(20.0))
    assert published(files) == stays


def test_what_a_removal_took_away_meanwhile_stays_away() -> None:
    files = FakeFiles()
    publish(files, proof(10.0))

    def removed(_path: str) -> None:
        files.files.pop(paths.PROOF, None)

    files.before_write = removed
    publish(files, proof(20.0))
    assert paths.PROOF not in files.files


def test_a_file_that_never_stays_as_it_was_is_not_written_over() -> None:
    files = FakeFiles()
    publish(files, proof(10.0))
    meanwhile(files, 11.0, 12.0, 13.0, 14.0)
    with pytest.raises(FileChangedError):
        publish(files, proof(20.0))
    assert published(files) == 13.0
