"""What real containerds of several versions make of files: the golden cases, and any that others wrote."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent import paths
from agent.apply.execute import check_containerd_config, unexpected
from agent.containerd.render import candidate
from agent.containerd.view import KEYS, PROXY_PLUGIN
from agent.errors import ApplyError
from agent.plan.diff import plan
from agent.ports import Ports
from agent.steps import CheckContainerdConfig
from agent.system.files import RootFiles
from agent.system.process import ChildProcesses
from tests.contract.live_containerd import lean, verdicts
from tests.unit.containerd_cases import Case, cases
from tests.unit.containerd_worlds import VERSIONS
from tests.unit.plan_node import look

# This directory is gone with the root that the contract tests run in.
_ETC = Path("/etc/containerd")
_RANCHER = Path("/var/lib/rancher")
_NAMED = Path("/usr/local/sbin/containerd")
WORLDS = 30

each = pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)


@pytest.fixture
def etc() -> Iterator[Path]:
    """The usual directory of containerd's files, empty, and as it was before afterwards."""
    kept = _ETC.with_name("containerd.kept")
    if _ETC.exists():
        _ETC.rename(kept)
    _ETC.mkdir()
    yield _ETC
    shutil.rmtree(_ETC)
    shutil.rmtree(_RANCHER, ignore_errors=True)
    if kept.exists():
        kept.rename(_ETC)


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Files and processes as root has them; `containerd` in PATH is whatever a test puts there."""
    yield cast("Ports", SimpleNamespace(files=RootFiles("/"), processes=ChildProcesses()))
    _NAMED.unlink(missing_ok=True)


def lay(files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)


def dump(program: Path, root: str) -> str:
    argv = [str(program), "--config", root, "config", "dump" if Path(root).exists() else "default"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@each
def test_the_candidates_are_accepted_and_leave_nothing(
    case: Case, containerds: Mapping[str, Path], ports: Ports, etc: Path
) -> None:
    lay(case.before)
    _NAMED.symlink_to(containerds[case.version])
    steps = plan(case.config, look(case.fake_node(), case.config)).steps
    (check,) = (step for step in steps if isinstance(step, CheckContainerdConfig))
    check_containerd_config(ports, check)
    place = Path(case.root).parent
    assert {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()} == case.before


@each
def test_what_goes_live_is_in_force_and_nothing_of_others_is_lost(
    case: Case, containerds: Mapping[str, Path], etc: Path
) -> None:
    program = containerds[case.version]
    lay(case.before)
    before = tomllib.loads(dump(program, case.root))
    lay(case.after)
    text = dump(program, case.root)
    after = tomllib.loads(text)
    wanted = candidate(case.config, case.node)
    assert unexpected(text, wanted.expect) == ()
    tables = [table for keys in KEYS.values() for table in (keys.runtimes, keys.platforms) if table]
    ours = [(*table, paths.RUNTIME) for table in tables]
    for path in [*wanted.wishes, *ours, PROXY_PLUGIN, ("imports",), ("proxy_plugins",)]:
        for document in (before, after):
            _drop(document, path)
    assert lean(after) == lean(before)


def test_a_candidate_that_containerd_cannot_load_is_told_with_its_words(
    containerds: Mapping[str, Path], ports: Ports, etc: Path
) -> None:
    for program in containerds.values():
        _NAMED.unlink(missing_ok=True)
        _NAMED.symlink_to(program)
        for content, code in ((b"version = [\n", "NNA0407"), (b"version = 2\n", "NNA0407")):
            step = CheckContainerdConfig(
                f"{etc}/config.toml", content, (("proxy_plugins.nydus.type", "snapshot"),)
            )
            with pytest.raises(ApplyError) as caught:
                check_containerd_config(ports, step)
            assert caught.value.code == code
        assert list(etc.iterdir()) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_containerd_does_what_the_plan_said_or_the_plan_was_refused(version: str, etc: Path) -> None:
    """Whatever others wrote. `make bench-configs` looks at more of these worlds."""
    assert etc.is_dir()
    made = tuple(verdicts(version, range(WORLDS)))
    print(f"worlds {version}/0 to {version}/{WORLDS - 1}")
    assert [f"{one.world.told()}\n{one.wrong}" for one in made if one.wrong] == []
    assert sum(not one.refused for one in made) >= WORLDS / 3


def _drop(document: Any, path: tuple[str, ...]) -> None:
    for key in path[:-1]:
        document = document.get(key, {})
    document.pop(path[-1], None)
