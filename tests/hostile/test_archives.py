"""Whatever an archive is and whatever vouches for it: it is refused in words of its own, the node stays as it was."""

from __future__ import annotations

import pytest

from tests.hostile import cases_archive, cases_release
from tests.hostile.case import Case, Scene
from tests.hostile.refusing import check
from tests.hostile.stage import Stage

CASES: tuple[Case, ...] = (*cases_archive.CASES, *cases_release.CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_old_version_stays_when_what_comes_is(case: Case, scene: Scene, stage: Stage) -> None:
    check(case, scene, stage)
