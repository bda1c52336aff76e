"""Whatever a server does: it is refused in words of its own, in time, and the node is what it was before."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.artifacts.refusals import Refusal
from tests.hostile import cases_ranges, cases_server, cases_way, test_archives
from tests.hostile.case import Case, Scene
from tests.hostile.refusing import check
from tests.hostile.stage import Stage

CASES: tuple[Case, ...] = (*cases_server.CASES, *cases_way.CASES, *cases_ranges.CASES)
_ELSEWHERE = {
    Refusal.ADDRESS_LOOPBACK: "test_kind.py, on a network of its own",
    Refusal.DEADLINE: "test_end.py",
    Refusal.DIED: "test_end.py",
    Refusal.DISK: "test_end.py",
    Refusal.START: "test_end.py",
    Refusal.ANSWER: "tests/unit/test_artifact_fetching.py",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_old_version_stays_when_a_server(case: Case, scene: Scene, stage: Stage) -> None:
    check(case, scene, stage)


def test_there_is_a_case_for_every_refusal() -> None:
    cases = (*CASES, *test_archives.CASES)
    assert {case.refusal for case in cases} | set(_ELSEWHERE) == set(Refusal)
    assert Counter(case.name for case in cases).most_common(1)[0][1] == 1
    assert len(cases) >= 100
