"""How the tests on nodes are run side by side: a group is a file, because its tests share a node.

Beside others a test's waits are free; what it measures is not. A group that holds its subject to times that a
busy machine does not keep is run alone, after the others; two that disturb each other as little as an idle
machine would are run as a pair.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ALONE = {
    "test_footprint": "holds the daemon to what it costs in a quiet minute",
    "test_saturation": "takes all cores",
    "test_switch_bench": "takes all cores, and holds switches to their times",
}
"""Files that run alone, and why."""

PAIR = ("test_footprint", "test_switch_bench")
"""Two of them that may run beside each other: the quiet minute is over before the bench takes all cores, and
until then the bench leaves three quarters of them.
"""

DRAGONFLY = (
    "test_bench", "test_credentials", "test_dragonfly", "test_dragonfly_files", "test_newcomer",
    "test_real_bytes", "test_saturation", "test_stand_ins",
)  # fmt: skip
"""Files that need a real dfdaemon, which takes longest to build: the tier `test-dragonfly`."""

SURVIVAL = (
    "test_change", "test_confirm_killed", "test_contracts", "test_crash_bench", "test_cut_off",
    "test_every_state",
    "test_faults", "test_fenced_life", "test_footprint", "test_handed_back", "test_harness",
    "test_hostile_images", "test_kept_knowledge", "test_matrix", "test_packages", "test_pulls",
    "test_refused_plans", "test_remove_tree", "test_restarts", "test_scarcity", "test_snapshotter_root",
    "test_switch_bench", "test_taken_away", "test_upgrade",
)  # fmt: skip
"""Files that ask what is left when the power, a process or a resource goes, and those that measure or vary at
length: the tier `test-survival`. All others are the stage `node`.
"""

LONG = (
    "test_confirm_killed", "test_matrix", "test_confirm", "test_change", "test_hostile_images",
    "test_symptoms", "test_checks", "test_contracts", "test_fenced_life", "test_safety", "test_cut_off",
    "test_convert", "test_packages", "test_newcomer", "test_pulls", "test_levers", "test_remove_tree",
    "test_programs", "test_dragonfly", "test_drift", "test_bench", "test_rollback", "test_mirror_faults",
    "test_credentials", "test_scarcity", "test_every_state", "test_hostile_node",
)  # fmt: skip
"""Those of a minute and more, the longest first: one that begins last is waited for while nothing runs beside
it.
"""

WAIT = ("test_confirm", "test_confirm_killed", "test_scarcity")
"""Files whose tests wait for what the node does by itself: they take less than half of what others take of
the cores, and two of them count as one.
"""

NODES = "NYDUS_AGENT_TEST_NODES"


def at_once() -> int:
    """How many files run side by side: $NYDUS_AGENT_TEST_NODES, or two for each core, since tests mostly
    wait.
    """
    asked = os.environ.get(NODES, "")
    return max(1, int(asked)) if asked.isdecimal() else min(6, 2 * cores())


def cores() -> int:
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Group:
    """One file of tests on nodes."""

    path: str
    alone: str
    """Empty, or the word that it shares with what alone may run beside it."""
    tier: str
    """The stage that runs it."""
    place: float
    """Of those that run side by side: how many it counts as."""

    @property
    def name(self) -> str:
        return Path(self.path).stem


def groups(directory: Path, root: Path, tier: str) -> list[Group]:
    """The files of a directory that a stage runs, in the order in which they begin."""
    found = [
        group for path in sorted(directory.glob("test_*.py")) if (group := _group(path, root)).tier == tier
    ]
    return sorted(found, key=lambda group: (group.alone != "", _rank(group)))


def _group(path: Path, root: Path) -> Group:
    word = "pair" if path.stem in PAIR else path.stem if path.stem in ALONE else ""
    tier = (
        "test-dragonfly" if path.stem in DRAGONFLY else "test-survival" if path.stem in SURVIVAL else "node"
    )
    return Group(str(path.relative_to(root)), word, tier, 0.5 if path.stem in WAIT else 1.0)


def _rank(group: Group) -> int:
    return LONG.index(group.name) if group.name in LONG else len(LONG)
