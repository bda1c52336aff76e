"""Packages of others move under us: containerd is upgraded by apt while nydus containers read.

containerd's config.toml is a conffile of its package, and we have changed it. dpkg keeps it without a word as
long as the package's own is the same as before; where that one changed too, dpkg asks. Here are all answers.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.node import releases, scene
from tests.node.boot import Node
from tests.node.detached import DetachedReader
from tests.node.repack import repack

CONFIG = "/etc/containerd/config.toml"
THEIRS = "# what the next version of the package says\n"
KEEP = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
TAKE = ("-o", "Dpkg::Options::=--force-confnew")

# True until the inspection that the upgrade asks for has been: on a slow machine long enough to be logged.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: ChangedSinceProof: ")


@dataclass
class Moving:
    """A node with our package applied on a containerd of which any number of newer versions can be
    installed.
    """

    stage: scene.Stage
    original: str
    """The conffile as its package has it."""
    number: int = 1

    @property
    def node(self) -> Node:
        return self.stage.node

    def newer(self, conffile: str) -> str:
        """The path of a newer package with this conffile."""
        self.number += 1
        return repack(self.node, "containerd", f"99.{self.number}", {CONFIG: conffile})

    def upgrade(self, deb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """As an unattended upgrade does it: nobody answers."""
        argv = ["apt-get", "--yes", "--quiet", *options, "install", deb]
        return self.node.run(argv, check=False, timeout=300, env={"DEBIAN_FRONTEND": "noninteractive"})

    def proof(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.node.read("/var/lib/nydus-agent/proof.json"))
        return found

    def wait_for_good_inspection(self, since: float) -> dict[str, object]:
        """The first proof since then (epoch seconds) that found the node well, without anybody's asking. One
        that began before the upgrade may see containerd while dpkg has stopped it; the upgrade orders
        another.
        """

        def good() -> dict[str, object] | None:
            proof = self.proof()
            return proof if float(str(proof["at"])) > since and proof["ok"] else None

        found = self.node.wait_until(good, 60, "an inspection has found the node well")
        assert found is not None
        return found


@pytest.fixture(scope="module", params=["1.7", "2.1"])
def moving(request: pytest.FixtureRequest) -> Iterator[Moving]:
    """In 1.7 our keys are in the conffile itself, in 2.1 it imports a file of ours."""
    with releases.booted(request.param) as node:
        stage = scene.dressed(node, "reader-nydus")
        made = Moving(stage, node.read(CONFIG))
        first = repack(node, "containerd", "99.1", {CONFIG: made.original})
        assert made.upgrade(first).returncode == 0
        scene.install(stage.node)
        scene.pull(stage.node, stage.ref("reader-nydus"))
        yield made


@pytest.fixture(scope="module")
def reading(moving: Moving) -> Iterator[DetachedReader]:
    with DetachedReader(moving.node, moving.stage.ref("reader-nydus")) as made:
        yield made


@pytest.fixture
def reader(reading: DetachedReader) -> Iterator[DetachedReader]:
    """It reads all the time, over all restarts of containerd."""
    reading.wait_for(5)
    yield reading
    reading.wait_for(5)
    assert reading.errors() == []


def test_an_upgrade_keeps_our_settings_without_a_question_and_is_looked_at(
    moving: Moving, reader: DetachedReader
) -> None:
    node, ours = moving.node, moving.node.read(CONFIG)
    containerd, snapshotter, agent = map(node.main_pid, ("containerd", "nydus-snapshotter", "nydus-agent"))
    began = time.time()
    done = moving.upgrade(moving.newer(moving.original))
    upgraded = time.time()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Configuration file" not in done.stdout + done.stderr
    assert "Processing triggers for nydus-node-agent" in done.stdout
    assert node.read(CONFIG) == ours
    assert node.main_pid("containerd") != containerd, "its own package restarts it"
    assert (node.main_pid("nydus-snapshotter"), node.main_pid("nydus-agent")) == (snapshotter, agent)
    proof = moving.wait_for_good_inspection(began)
    print(f"inspected {time.time() - upgraded:.1f} s after the upgrade")
    assert proof["drift"] == [], proof
    plan = scene.agent(node, "plan", "--exit-code", check=False)
    assert plan.returncode == 0, plan.stdout


def test_a_conffile_that_both_have_changed_is_kept_where_nobody_can_answer(
    moving: Moving, reader: DetachedReader
) -> None:
    node, ours = moving.node, moving.node.read(CONFIG)
    began = time.time()
    done = moving.upgrade(moving.newer(THEIRS + moving.original), *KEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.read(CONFIG) == ours
    assert node.read(f"{CONFIG}.dpkg-dist") == THEIRS + moving.original
    moving.wait_for_good_inspection(began)
    assert scene.agent(node, "plan", "--exit-code", check=False).returncode == 0


def test_without_those_options_dpkg_asks_and_the_plan_had_said_so(
    moving: Moving, reader: DetachedReader
) -> None:
    node, ours = moving.node, moving.node.read(CONFIG)
    done = moving.upgrade(moving.newer(THEIRS + THEIRS + moving.original))
    assert done.returncode != 0
    assert "conffile prompt" in done.stdout + done.stderr
    assert node.read(CONFIG) == ours
    # What was told before: the node works on, and one command ends it.
    node.run(["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"], timeout=120)
    assert node.read(CONFIG) == ours


@pytest.mark.allow_warnings(r"^nydus-agent.service: Drift: ")
def test_a_conffile_that_was_replaced_is_told_at_once_with_the_command_that_mends_it(
    moving: Moving, reader: DetachedReader
) -> None:
    node, theirs = moving.node, THEIRS + THEIRS + THEIRS + moving.original
    ours = set(node.read(CONFIG).splitlines()) - set(theirs.splitlines())
    assert ours
    deb, began = moving.newer(theirs), time.time()
    done = moving.upgrade(deb, *TAKE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.read(CONFIG) == theirs
    upgraded = time.time()
    node.wait_until(lambda: moving.proof()["drift"], 60, "the drift is told")
    print(
        f"told {time.time() - upgraded:.1f} s after the end of the upgrade, which took "
        f"{upgraded - began:.1f} s"
    )
    told = scene.agent(node, "status", check=False)
    assert told.returncode == 3
    assert "nydus-agent apply" in told.stdout, told.stdout
    applied = scene.agent(node, "apply", check=False)
    assert applied.returncode in (0, 3), applied.stdout + applied.stderr
    assert node.read(CONFIG).startswith(THEIRS), "their change is kept"
    assert ours <= set(node.read(CONFIG).splitlines()), "ours is there again"
    states = [check["state"] for check in scene.agent_json(node, "doctor")["checks"]]
    assert set(states) == {"ok"}
