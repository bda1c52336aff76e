"""What must hold after every refusal."""

from __future__ import annotations

import pytest

from agent.artifacts.refusals import REASONS
from agent.errors import ArtifactError
from tests.hostile.case import Case, Scene
from tests.hostile.conftest import note
from tests.hostile.stage import DEADLINE_S, GRACE_S, Stage, children


def check(case: Case, scene: Scene, stage: Stage) -> None:
    """The source of a case is refused in words of its own, in time, and the node is what it was before."""
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
