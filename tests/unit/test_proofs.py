"""What a proof publishes."""

from __future__ import annotations

import json

from agent import paths
from agent.proof.proofs import Proof, publish
from tests.fakes.files import FakeFiles


def proof(at: float) -> Proof:
    return Proof(at, ())


def published(files: FakeFiles) -> float:
    return float(json.loads(files.files[paths.PROOF].content)["at"])


def test_of_proofs_that_end_at_the_same_moment_the_one_that_was_published_first_stays() -> None:
    files = FakeFiles()
    publish(files, proof(10.0))
    files.before_write = lambda path: files.put(path, b'{"at": 19.0}')
    publish(files, proof(20.0))
    assert published(files) == 19.0


def test_what_a_removal_took_away_meanwhile_stays_away() -> None:
    files = FakeFiles()
    publish(files, proof(10.0))

    def removed(_path: str) -> None:
        files.files.pop(paths.PROOF, None)

    files.before_write = removed
    publish(files, proof(20.0))
    assert paths.PROOF not in files.files
