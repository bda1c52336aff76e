"""A plain image is pulled while the mirror hangs: what containerd has open is ended by what it is doing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest

from agent.daemon.lease import PATIENCE_S
from tests.node import scene

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")


MUCH_SOONER_S = 30.0
"""containerd alone gives such a pull up after 300 s.

On an idle machine these take 3 to 5 s, mostly for unpacking.
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged("python", "reader-nydus") as made:
        yield made


@pytest.fixture(autouse=True)
def well(stage: scene.Stage) -> Iterator[None]:
    """The mirror is well, the agent has forgotten former outages, and containerd has neither image nor
    blob.
    """
    stage.node.run(["crictl", "rmi", stage.ref("python")], check=False)
    scene.fresh_agent(stage.node, 60)
    yield
    stage.mirror.unit.thaw()
    stage.mirror.fault()


class Pull:
    """A `crictl pull` that runs beside the test."""

    def __init__(self, stage: scene.Stage, name: str = "python") -> None:
        self._node = stage.node
        self.began = time.monotonic()
        self._child = stage.node.popen(
            ["crictl", "--timeout=120s", "pull", stage.ref(name)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.runs():
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate(timeout=10)

    def runs(self) -> bool:
        return self._child.poll() is None

    def ended(self, deadline_s: float) -> tuple[bool, float, str]:
        """Whether it succeeded, how long it took, what it wrote."""
        self._node.wait_until(lambda: not self.runs(), deadline_s, "the pull has ended")
        took_s = time.monotonic() - self.began
        assert self._child.stdout is not None
        return self._child.returncode == 0, took_s, self._child.stdout.read().decode()


def seen(stage: scene.Stage) -> dict[str, Any]:
    """What became of containerd's connections, as the agent tells it."""
    found: dict[str, Any] = scene.daemon_status(stage.node)["containerd"]
    return found


def within_a_layer(stage: scene.Stage) -> bool:
    """Whether containerd has taken some of a layer that is not whole yet."""
    lines = stage.node.run(["ctr", "--namespace=k8s.io", "content", "active"]).stdout.splitlines()[1:]
    return any(line.startswith("layer-") and line.split()[1] != "0B" for line in lines)


def test_a_mirror_that_hangs_before_the_answer_costs_a_pull_a_second(stage: scene.Stage) -> None:
    hits = stage.mirror.stats()["hits"]
    stage.mirror.fault("hang", match="/manifests/")
    with Pull(stage) as pull:
        stage.node.wait_until(lambda: stage.mirror.stats()["hits"] > hits, 20, "the pull waits for an answer")
        stage.mirror.unit.freeze()
        succeeded, took_s, said = pull.ended(60)
    print(f"frozen before the answer: pulled in {took_s:.1f} s")
    assert succeeded, said
    assert took_s < MUCH_SOONER_S
    stage.node.wait_until(lambda: seen(stage)["released_waiting"] >= 1, 3, "the agent tells of it")


def test_so_does_one_that_hangs_when_the_first_layer_is_asked_for_on_a_kept_connection(
    stage: scene.Stage,
) -> None:
    stage.mirror.fault("hang", match="/blobs/|canary")
    with Pull(stage) as pull:
        succeeded, took_s, said = pull.ended(60)
    print(f"hangs with each blob: pulled in {took_s:.1f} s")
    assert succeeded, said
    assert took_s < MUCH_SOONER_S
    stage.node.wait_until(lambda: seen(stage)["released_waiting"] >= 1, 3, "the agent tells of it")


def test_a_transfer_in_flight_completes_when_the_mirror_thaws_within_the_patience(stage: scene.Stage) -> None:
    stage.mirror.fault("trickle", match="/blobs/", rate=200_000)
    with Pull(stage) as pull:
        stage.node.wait_until(lambda: within_a_layer(stage), 15, "a layer has begun to come")
        stage.mirror.unit.freeze()
        scene.wait_for_route(stage.node, "origin", 10)
        stage.node.wait_until(lambda: seen(stage)["spared"] >= 1, 5, "a transfer is spared")
        stage.node.wait_until(lambda: time.monotonic() - pull.began > 10, 15, "the mirror hung for long")
        assert pull.runs()
        stage.mirror.unit.thaw()
        stage.mirror.fault()
        succeeded, took_s, said = pull.ended(60)
    print(f"frozen for some seconds within a layer: pulled in {took_s:.1f} s, {json.dumps(seen(stage))}")
    assert succeeded, said
    assert seen(stage)["released_stalled"] == 0


def test_a_transfer_that_brings_nothing_for_longer_ends_and_its_retry_succeeds(stage: scene.Stage) -> None:
    stage.mirror.fault("hang_body", match="/blobs/|canary")
    with Pull(stage) as pull:
        succeeded, took_s, said = pull.ended(PATIENCE_S + 15)
    print(f"hangs within a layer: the pull ended after {took_s:.1f} s: {said}")
    assert not succeeded, said
    assert PATIENCE_S - 1 < took_s < PATIENCE_S + 8
    stage.node.wait_until(lambda: seen(stage)["released_stalled"] >= 1, 3, "the agent tells of it")
    with Pull(stage) as again:
        succeeded, took_s, said = again.ended(60)
    print(f"its retry took {took_s:.1f} s")
    assert succeeded, said
