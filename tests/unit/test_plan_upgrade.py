"""What a plan says of nydusd processes that run, before it restarts their snapshotter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import Config, MirrorConfig
from agent.errors import PlanError
from agent.facts.node import Binary
from agent.plan.diff import plan
from agent.programs.versions import commit
from tests.fakes.node import FakeNode
from tests.unit.plan_node import carry_out, look, node

OTHER_MIRROR = Config(mirror=MirrorConfig(url="http://127.0.0.1:4999"))


def applied(snapshotter: str) -> FakeNode:
    made = node(snapshotter)
    carry_out(made, plan(Config(), look(made, Config())).steps)
    return made


@pytest.mark.parametrize(("snapshotter", "in_flight"), [("0.13.4", False), ("0.16.1", True)])
def test_a_restart_of_the_snapshotter_says_what_becomes_of_running_mounts(
    snapshotter: str, in_flight: bool
) -> None:
    made = applied(snapshotter)
    notes = "\n".join(plan(OTHER_MIRROR, look(made, OTHER_MIRROR)).notes)
    assert "mounts that run keep their nydusd over the snapshotter's restart, new ones get v2.2.0" in notes
    assert ('only where its recover_policy is "failover"' in notes) is in_flight


def test_a_plan_that_restarts_no_snapshotter_says_nothing_of_it() -> None:
    assert not any("keep their nydusd" in note for note in plan(Config(), look(node(), Config())).notes)
    made = applied("0.16.1")
    assert not any("keep their nydusd" in note for note in plan(Config(), look(made, Config())).notes)


def test_a_nydusd_without_a_commit_is_refused_where_the_snapshotter_would_not_start_again() -> None:
    for version, refused in (("0.13.4", False), ("0.16.1", True)):
        facts = look(node(version), Config())
        assert isinstance(facts.nydusd, Binary)
        without = replace(facts, nydusd=replace(facts.nydusd, commit=""))
        if refused:
            with pytest.raises(PlanError, match="names no git commit"):
                plan(Config(), without)
        else:
            plan(Config(), without)


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("Version: \tv2.3.8\nGit Commit: \tabc def\nBuild Time: \tx\n", "abc def"),
        ("Version: \tv2.2.0\nGit Commit: \tunknown\n", "unknown"),
        ("Version: \tv2.2.0\n", ""),
        ("Git Commit:", ""),
    ],
)
def test_the_commit_is_read_as_the_snapshotter_reads_it(output: str, named: str) -> None:
    assert commit(output) == named
