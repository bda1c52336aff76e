"""`nydus-agent artifacts install` as an operator types it, of sources that mean harm: its answer, and what stays."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from agent.__main__ import main
from agent.artifacts.fetching import SourceKind
from agent.artifacts.lock import render
from agent.artifacts.refusals import REASONS
from agent.errors import Exit
from tests.hostile import cases_archive, cases_release, cases_server, cases_way
from tests.hostile.case import Case, Scene
from tests.hostile.stage import GOOD, Stage, children, lock_made_now

_ALL = (*cases_archive.CASES, *cases_release.CASES, *cases_server.CASES, *cases_way.CASES)
_OF_EACH_KIND = {
    "a digest that is not the lock's": (Exit.FAILED, "NNA1115"),
    "data without end": (Exit.FAILED, "NNA1114"),
    "leads to the cloud's metadata": (Exit.FAILED, "NNA1113"),
    "has a certificate of nobody": (Exit.FAILED, "NNA1111"),
    "an absolute path to a program": (Exit.FAILED, "NNA1118"),
    "a program for arm64": (Exit.FAILED, "NNA1120"),
    "a directory with a link to a secret": (Exit.USAGE, "NNA1122"),
}
"""Its name, the exit code and the code of the message."""
_CONFIG = '[artifacts]\nnydus = "2.4.4"\ndirectory = "/store"\nlock = "/etc/my.lock.toml"\n'


def run(stage: Stage, *words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    where = ["--config", str(stage.root / "agent.toml"), "--conf-d", str(stage.root / "conf.d")]
    code = main([*where, *words], environment={}, out=out, err=err, uid=0, root=str(stage.root))
    return code, out.getvalue(), err.getvalue()


def lay(case: Case, scene: Scene, stage: Stage) -> list[str]:
    """The words of an operator who has taken the lock for good."""
    artifacts = (case.lay(scene), *scene.others)
    (stage.root / "etc").mkdir()
    lock = lock_made_now(*(replace(one, version="v2.4.4") for one in artifacts))
    (stage.root / "etc/my.lock.toml").write_bytes(render(lock))
    (stage.root / "agent.toml").write_text(_CONFIG)
    named = ["--from", scene.source.place] if scene.source.kind is SourceKind.DIRECTORY else []
    return ["artifacts", "install", *named]


def _stored(stage: Stage) -> dict[str, str]:
    return {path: told for path, told in stage.tree().items() if path.startswith(f"{stage.root}/store/")}


@pytest.mark.parametrize("name", _OF_EACH_KIND)
def test_an_operator_is_told_why_nothing_was_installed_and_the_old_version_stays(
    name: str, scene: Scene, stage: Stage
) -> None:
    (case,) = (one for one in _ALL if one.name == name)
    words = lay(case, scene, stage)
    before = _stored(stage)
    code, out, err = run(stage, *words)
    exit_code, told = _OF_EACH_KIND[name]
    assert (code, out) == (exit_code, "")
    assert f"error[{told}]: nydus v2.4.4 (amd64) was not taken" in err
    assert f"cause: {REASONS[case.refusal].cause}" in err
    assert case.seen in err
    assert err.splitlines()[-1].startswith("try: ")
    assert children() == {}
    assert _stored(stage) == before
    assert stage.store.current() == stage.old
    assert run(stage, "artifacts", "verify", "current")[0] == Exit.OK


def test_what_means_well_is_installed_by_the_same_words(scene: Scene, stage: Stage) -> None:
    """Else the refusals above would prove nothing."""
    case = Case("well", next(iter(REASONS)), lambda scene: scene.lay(GOOD))
    code, out, err = run(stage, *lay(case, scene, stage))
    assert (code, "nydus v2.4.4: installed in" in out) == (Exit.OK, True), err
    current = stage.store.current()
    assert current is not None
    assert current.id != stage.old.id
