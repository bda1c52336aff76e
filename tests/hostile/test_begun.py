"""A download that was cut off goes on in a later run; what is left of it is trusted as little as what servers send."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.artifacts.fetching import Job, Progress, Source, SourceKind
from agent.artifacts.lock import Artifact, render
from agent.errors import ArtifactError
from tests.contract.waiting import wait_until
from tests.hostile.case import Scene
from tests.hostile.cases_ranges import ended_parts
from tests.hostile.server import Exchange, Handler, answer, head, parts
from tests.hostile.stage import DEADLINE_S, GOOD, LIMITS, PROGRAMS, Stage, children, lock_made_now

DIGEST = hashlib.sha256(GOOD).hexdigest()
CUT = 150_000


class Place:
    """Where an installation keeps what has come, and what a run makes of it."""

    def __init__(self, scene: Scene, stage: Stage, root: Path) -> None:
        self.scene, self.stage, self.root = scene, stage, root
        self.begun = root / "begun"
        self.begun.mkdir()
        self.heard: list[Progress] = []
        self.runs = 0

    @property
    def left(self) -> bytes | None:
        path = self.begun / DIGEST
        return path.read_bytes() if path.exists() else None

    def leave(self, content: bytes) -> None:
        (self.begun / DIGEST).write_bytes(content)

    def fetch(self, artifact: Artifact) -> dict[str, bytes]:
        """The programs that arrive."""
        self.runs += 1
        into = self.root / f"into-{self.runs}"
        into.mkdir()
        job = Job((artifact,), Source(SourceKind.RELEASE), LIMITS)
        self.stage.source.fetch(job, str(into), self.heard.append, deadline_s=DEADLINE_S, begun=str(self.begun))
        return {path.name: path.read_bytes() for path in (into / "nydus").iterdir()}

    def asked(self) -> list[tuple[int, int | None] | None]:
        """The ranges that the server was asked for since the last time."""
        asked = [request.asked() for request in self.scene.web.requests]
        self.scene.web.requests.clear()
        return asked


@pytest.fixture
def place(scene: Scene, stage: Stage, tmp_path: Path) -> Place:
    return Place(scene, stage, tmp_path)


def test_what_had_come_before_the_way_failed_is_not_asked_for_again(place: Place) -> None:
    artifact = place.scene.serve(ended_parts(GOOD, lambda _first: CUT), GOOD)
    with pytest.raises(ArtifactError) as caught:
        place.fetch(artifact)
    assert caught.value.code == "NNA1111"
    assert place.left is not None
    assert place.left == GOOD[:CUT]
    place.asked()
    assert place.fetch(place.scene.serve(parts(GOOD), GOOD)) == PROGRAMS
    firsts = sorted(first for first, _last in filter(None, place.asked()))
    assert firsts == list(range(CUT, len(GOOD), LIMITS.piece)), "in parts, as a download from the beginning"
    assert f"behind {CUT} bytes of an earlier run" in place.heard[-1].note


_LATER: dict[str, tuple[Handler, bytes]] = {
    "of a server that knows no parts": (answer(GOOD), GOOD[:CUT]),
    "that a power cut has left as zeros": (parts(GOOD), bytes(CUT)),
    "of another file": (parts(GOOD), os.urandom(CUT)),
    "that is damaged within, of a server that knows no parts": (answer(GOOD), GOOD[:99] + b"xx" + GOOD[101:CUT]),
    "that is longer than the archive": (parts(GOOD), GOOD + b"more"),
    "that is as long as the archive and not it": (parts(GOOD), GOOD[:-1] + b"x"),
}


@pytest.mark.parametrize("beginning", _LATER)
def test_the_lock_s_very_bytes_arrive_behind_a_beginning(beginning: str, place: Place) -> None:
    handler, content = _LATER[beginning]
    place.leave(content)
    assert place.fetch(place.scene.serve(handler, GOOD)) == PROGRAMS
    assert place.left == GOOD


def test_what_has_come_to_its_end_needs_no_server(place: Place) -> None:
    place.leave(GOOD)
    artifact = place.scene.serve(answer(b"gone", "404 Not Found"), GOOD)
    assert place.fetch(artifact) == PROGRAMS
    assert place.asked() == []


def test_a_beginning_makes_no_archive_of_what_the_lock_does_not_name(place: Place) -> None:
    other = bytearray(GOOD)
    other[-100] ^= 1
    place.leave(GOOD[:CUT])
    with pytest.raises(ArtifactError) as caught:
        place.fetch(place.scene.serve(parts(bytes(other)), GOOD))
    assert caught.value.code == "NNA1115"


def test_of_other_archives_and_of_nothing_no_file_is_left(place: Place) -> None:
    (place.begun / ("0" * 64)).write_bytes(b"of a lock before")
    with pytest.raises(ArtifactError):
        place.fetch(place.scene.serve(answer(b"", "503 Service Unavailable"), GOOD))
    assert list(place.begun.iterdir()) == []


_VERB = """
import sys
sys.path.insert(0, sys.argv[1])
from agent.__main__ import main
where = ["--config", sys.argv[2] + "/agent.toml", "--conf-d", sys.argv[2] + "/conf.d"]
sys.exit(main([*where, "artifacts", "install"], environment={}, uid=0, root=sys.argv[2]))
"""


def test_an_installation_that_was_killed_goes_on_with_the_next_one(scene: Scene, stage: Stage) -> None:
    waits = threading.Event()

    def half(exchange: Exchange) -> bool:
        exchange.send(head(Content_Length=str(len(GOOD)), ETag='"one"') + GOOD[:CUT])
        waits.set()
        exchange.wait(600)
        return False

    artifact = replace(scene.serve(half, GOOD), version="v2.4.4")
    (stage.root / "agent.toml").write_text('[artifacts]\nnydus = "2.4.4"\ndirectory = "/store"\nlock = "/my.toml"\n')
    (stage.root / "my.toml").write_bytes(render(lock_made_now(artifact)))
    argv = [sys.executable, "-I", "-c", _VERB, str(Path(__file__).parents[2]), str(stage.root)]
    kept = stage.root / "store/.begun" / DIGEST
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert waits.wait(120)
            wait_until(lambda: kept.exists() and kept.stat().st_size > CUT // 2, "half of it has been kept")
        finally:
            process.kill()
    wait_until(lambda: not children(), "the download has ended")
    left = kept.stat().st_size
    assert kept.read_bytes() == GOOD[:left]
    assert stage.store.current() == stage.old
    scene.serve(parts(GOOD), GOOD)
    scene.web.requests.clear()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [request.asked() for request in scene.web.requests] == [(left, left + (4 << 20) - 1)]
    current = stage.store.current()
    assert current is not None
    assert (current.id != stage.old.id, stage.store.verify(current.id)) == (True, ())
    assert not kept.parent.exists()
