"""The daemon is small, has few rights, and is silent when nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.node import scene


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged() as made:
        yield made


def test_the_daemons_unit_exposes_little(stage: scene.Stage) -> None:
    done = stage.node.run(
        ["systemd-analyze", "security", "--no-pager", "--threshold=20", "nydus-agent.service"], check=False
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout


def test_the_daemon_is_silent_in_an_idle_minute_and_stays_small(stage: scene.Stage) -> None:
    node = stage.node
    scene.wait_for_route(node, "mirror")
    stage_up = time.monotonic()
    since = "@" + node.run(["date", "+%s.%6N"]).stdout.strip()
    node.wait_until(lambda: time.monotonic() - stage_up >= 60, 90, "a minute has passed")
    pid = node.main_pid("nydus-agent")
    rollup = node.read(f"/proc/{pid}/smaps_rollup")
    kilobytes = {line.split()[0].rstrip(":"): int(line.split()[1]) for line in rollup.splitlines()[1:]}
    threads = len(node.run(["ls", f"/proc/{pid}/task"]).stdout.split())
    print(f"RSS {kilobytes['Rss'] / 1024:.1f} MiB, PSS {kilobytes['Pss'] / 1024:.1f} MiB, {threads} threads")
    assert kilobytes["Pss"] <= 30 * 1024
    # Another node's daemon shares the files of the same root with it, which makes its part of them small.
    assert kilobytes["Rss"] <= 36 * 1024
    assert threads <= 4
    assert node.journal("nydus-agent.service", since).strip() == ""
