"""Whatever a source does: it is refused in words of its own, in time, and the node is what it was before."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.artifacts.refusals import REASONS, Refusal
from agent.errors import ArtifactError
from tests.hostile import (
    cases_archive,
    cases_ranges,
    cases_release,
    cases_server,
    cases_way,
)
from tests.hostile.case import Case, Scene
from tests.hostile.conftest import note
from tests.hostile.stage import DEADLINE_S, GRACE_S, Stage, children

CASES: tuple[Case, ...] = (
    *cases_server.CASES, *cases_way.CASES, *cases_ranges.CASES, *cases_archive.CASES, *cases_release.CASES,
)  # fmt: skip
_ELSEWHERE = {
    Refusal.ADDRESS_LOOPBACK: "test_kind.py, on a network of its own",
    Refusal.DEADLINE: "test_end.py",
    Refusal.DIED: "test_end.py",
    Refusal.DISK: "test_end.py",
    Refusal.START: "test_end.py",
    Refusal.ANSWER: "tests/unit/test_artifact_fetching.py",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_old_version_stays_when_a_source(case: Case, scene: Scene, stage: Stage) -> None:
    artifact = case.lay(scene)
    before = stage.tree()
    with pytest.raises(ArtifactError) as caught:
        stage.install(artifact, scene.source, others=scene.others, trust=scene.trust)
    error = caught.value
    shown = " | ".join(error.seen)
    note(case.name, error.code, f"{error.cause} ({shown})", stage.took_s)
    assert (error.code, error.cause) == (REASONS[case.refusal].code, REASONS[case.refusal].cause), shown
    assert case.seen in shown
    assert stage.took_s < DEADLINE_S + GRACE_S
    assert children() == {}
    assert stage.tree() == before
    current = stage.store.current()
    assert current is not None
    assert current.id == stage.old.id
    assert "s3cret" not in f"{error} {shown}"


def test_there_is_a_case_for_every_refusal() -> None:
    assert {case.refusal for case in CASES} | set(_ELSEWHERE) == set(Refusal)
    assert Counter(case.name for case in CASES).most_common(1)[0][1] == 1
    assert len(CASES) >= 100
