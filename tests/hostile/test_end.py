"""However a download ends, its process is gone, and what it was doing is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.adapters.artifact_fetch import SandboxedSource
from agent.artifacts.refusals import REASONS, Refusal
from agent.errors import ArtifactError
from tests.contract.waiting import ENDS_S, wait_until
from tests.hostile.case import Scene
from tests.hostile.server import Exchange, head
from tests.hostile.stage import GOOD, Stage, children

_LONG = str(len(GOOD))


def _half(scene: Scene) -> threading.Event:
    """A server that gives half of the file and then waits; set when it waits."""
    waits = threading.Event()

    def handle(exchange: Exchange) -> bool:
        exchange.send(head(Content_Length=_LONG) + GOOD[: len(GOOD) // 2])
        waits.set()
        exchange.wait(600)
        return False

    scene.web.routes["/half"] = handle
    return waits


def test_a_download_that_takes_too_long_is_ended(scene: Scene, stage: Stage) -> None:
    _half(scene)
    artifact = scene.serve(scene.web.routes["/half"], GOOD)
    before = stage.tree()
    with pytest.raises(ArtifactError) as caught:
        stage.install(artifact, deadline_s=0.5)
    assert caught.value.cause == REASONS[Refusal.DEADLINE].cause
    assert stage.took_s < ENDS_S
    assert (children(), stage.tree()) == ({}, before)


def test_a_download_that_is_killed_leaves_the_old_version(scene: Scene, stage: Stage) -> None:
    waits = _half(scene)
    artifact = scene.serve(scene.web.routes["/half"], GOOD)
    before = stage.tree()

    def kill() -> None:
        assert waits.wait(100)
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ArtifactError) as caught:
        stage.install(artifact)
    killer.join(10)
    assert caught.value.cause == REASONS[Refusal.DIED].cause
    assert caught.value.seen[0] == "exit status -9"
    assert (children(), stage.tree()) == ({}, before)


def test_a_full_disk_is_told_as_one(scene: Scene, stage: Stage) -> None:
    """The child's writes fail; the store's own look at the room is not asked here."""
    artifact = scene.lay(GOOD)
    small = stage.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True, timeout=60)
    try:
        with pytest.raises(ArtifactError) as caught:
            stage.fetch(artifact, str(small))
    finally:
        subprocess.run(["umount", small], check=True, timeout=60)
    assert caught.value.cause == REASONS[Refusal.DISK].cause
    assert "No space left" in " ".join(caught.value.seen)


def test_a_node_on_which_it_cannot_be_started_is_told_why(scene: Scene, stage: Stage) -> None:
    artifact, before = scene.lay(GOOD), stage.tree()
    subprocess.run(["mount", "--bind", "/dev/null", "/usr/bin/setpriv"], check=True, timeout=60)
    try:
        with pytest.raises(ArtifactError) as caught:
            stage.install(artifact)
    finally:
        subprocess.run(["umount", "/usr/bin/setpriv"], check=True, timeout=60)
    assert caught.value.cause == REASONS[Refusal.START].cause
    assert stage.tree() == before


def test_a_systemd_that_does_not_make_the_sandbox_is_told_in_its_own_words(scene: Scene, stage: Stage) -> None:
    """Never without it instead: where systemd is said to run, only its sandbox will do."""
    stage.source = SandboxedSource(booted=True)
    with pytest.raises(ArtifactError) as caught:
        stage.install(scene.lay(GOOD))
    assert caught.value.cause == REASONS[Refusal.DIED].cause
    assert "systemd" in " ".join(caught.value.seen)
    assert scene.web.requests == []


_PARENT = """
import sys
sys.path.insert(0, {modules!r})
from agent.adapters.artifact_fetch import SandboxedSource
from agent.artifacts.fetching import Job, Source, SourceKind
from tests.hostile.stage import GOOD, LIMITS, pinned
job = Job((pinned(GOOD, {url!r}),), Source(SourceKind.RELEASE), LIMITS)
SandboxedSource(booted=False).fetch(job, {into!r}, lambda _: None, deadline_s=60)
"""


def test_no_download_outlives_the_command_that_began_it(scene: Scene, stage: Stage, tmp_path: Path) -> None:
    waits = _half(scene)
    (tmp_path / "into").mkdir()
    modules = str(Path(__file__).parents[2])
    script = _PARENT.format(modules=modules, url=scene.web.url("/half"), into=str(tmp_path / "into"))
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        assert waits.wait(100)
        assert len(children()) == 1
    finally:
        parent.kill()
        parent.wait(60)
    wait_until(lambda: children() == {}, "the download has ended")
