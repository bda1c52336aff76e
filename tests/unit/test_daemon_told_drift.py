"""What root's inspection has found is told, and root is asked for one when something of ours changes: in a
tree of real files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import paths
from agent.codec import to_document, to_json
from agent.daemon.drift import Drift, active_link
from agent.daemon.lease import FenceLease
from agent.daemon.publish import Problems, conditions
from agent.daemon.settings import Places
from agent.documents.drift import Expected, Finding, Kind, Remedy
from agent.health.state import State
from tests.fakes.daemon import FakeCgroups, FakeWatch
from tests.fakes.fence import FakeFence

CONFIG = "/etc/containerd/config.toml"
DROP_IN = f"{paths.SNAPSHOTTER_UNIT_FILE}.d/50-x.conf"
EDITED = Finding(Kind.FILE_EDITED, paths.NYDUSD_TEMPLATE, "it was edited", Remedy.REPAIR, "x")
DOWN = Finding(Kind.UNIT_DOWN, paths.SNAPSHOTTER_UNIT, "it is down", Remedy.REPAIR, "x")


class Tree:
    """A node's files below a directory, as they were applied; `now` goes by with each look."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        self.watch = FakeWatch()
        self.places = Places.below(str(root))
        self.write(active_link(), "")
        self.at(paths.RUN_DIR).mkdir(parents=True, exist_ok=True)
        self.publish(Expected(1, (paths.NYDUSD_TEMPLATE,)))
        self.drift = Drift(self.watch, lambda: 0, CONFIG, self.places)
        self.drift.refresh(self.now)

    def at(self, path: str) -> Path:
        return self.root / path[1:]

    def write(self, path: str, text: str) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)

    def publish(self, expected: Expected) -> None:
        self.write(paths.EXPECTED, json.dumps(to_document(expected)))

    def root_found(self, *found: Finding, gave_up: tuple[str, ...] = ()) -> bool:
        document = {"findings": to_json(found), "gave_up": gave_up}
        self.write(paths.DRIFT, json.dumps(document))
        return self.event(self.places.drift)

    def event(self, path: str) -> bool:
        self.watch.touch(path)
        return self.drift.read_changes(self.now, 1_000_000 + self.now)

    def asks(self, after_s: float) -> bool:
        self.now += after_s
        return self.drift.ask(self.now)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    made.watch.close()


def test_what_root_has_found_is_told_with_its_event_and_so_is_its_end(tree: Tree) -> None:
    assert tree.drift.findings == ()
    assert tree.root_found(EDITED, gave_up=("the template: 5 times",)) is True
    assert (tree.drift.findings, tree.drift.gave_up) == ((EDITED,), ("the template: 5 times",))
    assert tree.root_found(EDITED, gave_up=("the template: 5 times",)) is False
    assert tree.root_found() is True
    assert (tree.drift.findings, tree.drift.gave_up) == ((), ())


def test_what_root_had_found_before_the_daemon_began_is_told(tmp_path: Path) -> None:
    before = Tree(tmp_path)
    before.root_found(EDITED)
    after = Drift(before.watch, lambda: 0, CONFIG, before.places)
    after.refresh(0.0)
    assert after.findings == (EDITED,)
    before.watch.close()


def test_a_drop_in_in_a_directory_that_was_made_just_now_asks_root_to_look(tree: Tree) -> None:
    tree.event(str(Path(DROP_IN).parent))
    assert tree.asks(1.0)


def test_a_unit_that_does_not_run_asks_root_to_look_after_the_time_of_a_restart(tree: Tree) -> None:
    tree.at(active_link()).unlink()
    tree.event(active_link())
    assert not tree.asks(1.0)
    tree.write(active_link(), "")  # a restart
    tree.event(active_link())
    assert not tree.asks(3.0)
    tree.at(active_link()).unlink()
    tree.event(active_link())
    assert tree.asks(2.0)
    tree.root_found(DOWN)
    tree.event(active_link())
    assert not tree.asks(3.0), "that is known"
    tree.write(active_link(), "")
    tree.event(active_link())
    assert tree.asks(2.0)


def test_a_node_from_which_all_was_removed_has_no_drift(tree: Tree) -> None:
    tree.root_found(EDITED)
    tree.at(paths.EXPECTED).unlink()
    assert tree.event(tree.places.expected) is True
    assert tree.drift.findings == ()


def test_the_directories_of_what_was_applied_are_watched_from_the_next_look_on(tree: Tree) -> None:
    tree.publish(Expected(2, ("/opt/x/file",)))
    tree.event(tree.places.expected)
    tree.drift.refresh(tree.now)
    assert "/opt/x" in tree.watch.directories
    assert str(Path(active_link()).parent) in tree.watch.directories
    tree.event("/opt/x/file")
    assert tree.asks(1.0)


def test_the_condition_names_some_findings_and_counts_the_rest(tree: Tree) -> None:
    edited = Kind.PACKAGE_EDITED
    tree.root_found(
        *(Finding(edited, f"/usr/{n}", f"/usr/{n} was edited", Remedy.HAND, "x") for n in range(7))
    )
    lease = FenceLease(FakeFence(), FakeCgroups(), ("127.0.0.1", 4001))
    held = conditions(
        State(), lease, tree.drift, Problems(), symptoms="", around=False, refused="", unsteady=""
    )
    (found,) = (one for one in held if one.type == "Drift")
    assert found.holds
    assert found.message.startswith("/usr/0 was edited; /usr/1 was edited; ")
    assert found.message.endswith("/usr/4 was edited; and 2 more")
