"""Power cuts: every tree that a disk may hold after each call of a change, then the boot's recovery on it."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.errors import AgentError
from tests.bench.survival import run
from tests.bench.survival.disk import Recording, Tree, lay
from tests.bench.survival.run import Act, Process, Scenario
from tests.bench.survival.stage import Stage, view
from tests.bench.survival.verdicts import TreeTally
from tests.bench.survival.warden import calls_of

_VIEW = ".machine.view"


def record(template: Path, act: Act, root: Path) -> Recording:
    """The calls of a verb, on a copy of the node; checked: all of them together make the tree that is
    there.
    """
    run.clone(template, root)
    return record_process(root, lambda first: run.Child(root, act, first=first))


def record_process(root: Path, start: Callable[[Callable[[], None]], Process]) -> Recording:
    """The calls of any process that changes the tree below `root`."""
    recording = Recording.of(root)
    for call in calls_of(root, start):
        path, second = _below(root, call.path), _below(root, call.second)
        if path:
            recording.add(call, path, second)
    recorded, found = recording.tree(recording.ops), Recording.of(root).tree(())
    other = {path: (recorded.get(path), found.get(path)) for path in {**recorded, **found}}
    other = {path: both for path, both in other.items() if both[0] != both[1]}
    assert not other, f"the record is not what was done: {other}"
    return recording


def _below(root: Path, path: str) -> str:
    for start in (f"{root}{_VIEW}/", f"{root}/"):
        if path.startswith(start):
            return "/" + path.removeprefix(start)
    return "/" if path == str(root) else ""


def cut_power(scenario: Scenario, scratch: Path, every: int, seed: int) -> list[TreeTally]:
    """Cut the power after each (`every`th) call, and in some of these trees again while the boot recovers."""
    chance = random.Random(f"{scenario.name} {seed}")
    root = scratch / "cut"
    tally = TreeTally(f"{scenario.name}, power cut after each call")
    recording = record(scenario.template, scenario.act, scratch / "recorded")
    trees = dict(distinct(recording, every, chance))
    for tree, where in trees.values():
        _boot(scenario, tree, root, tally, where)
    again = TreeTally(f"{scenario.name}, power cut again while it recovers")
    middle = [found for found in trees.values() if any(path.endswith("/open.jsonl") for path in found[0])]
    for tree, where in chance.sample(middle, min(len(middle), max(1, 12 // every))):
        _cut_again(scenario, tree, where, scratch, every, again, chance)
    return [tally, again]


def distinct(
    recording: Recording, every: int, chance: random.Random
) -> Iterator[tuple[str, tuple[Tree, str]]]:
    """(digest, (tree, when)) of the trees that may be found after a cut."""
    for cut in range(0, len(recording.ops) + 1, every):
        for tree in recording.trees(cut, chance):
            digest = hashlib.sha256(repr(sorted(tree.items())).encode()).hexdigest()
            yield digest, (tree, f"after {cut} of {len(recording.ops)} operations")


def _laid(tree: Tree, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for beside in root.parent.glob(f"{root.name}.*"):
        beside.unlink()
    lay(tree, root)
    view(root)
    Stage(root).lose_power()


def _boot(scenario: Scenario, tree: Tree, root: Path, tally: TreeTally, where: str) -> None:
    _laid(tree, root)
    tally.counts["trees"] += 1
    stage = Stage(root)
    try:
        stage.recover(jobs=False)
    except AgentError as error:
        tally.mixed(where, f"recover: {error}")
        return
    Stage(root).start_services()
    tally.judge(scenario, root, where)


def _recover(stage: Stage) -> None:
    stage.recover(jobs=False)


def _cut_again(
    scenario: Scenario,
    tree: Tree,
    where: str,
    scratch: Path,
    every: int,
    tally: TreeTally,
    chance: random.Random,
) -> None:
    template = scratch / "half"
    _laid(tree, template)
    recording = record(template, _recover, scratch / "recorded")
    for found, there in dict(distinct(recording, every, chance)).values():
        _boot(scenario, found, scratch / "cut", tally, f"{where}, and then {there}")
