"""What the daemon judges for itself, in a tree of real files: each change is known when its event has
come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import paths
from agent.daemon.applied_files import active_link
from agent.daemon.drift import Drift
from agent.daemon.lease import FenceLease
from agent.daemon.settings import Places
from agent.daemon.view import Problems, conditions
from agent.health.state import State
from agent.plan.drift import Expected, ExpectedFile, Finding, Kind, Remedy, expected_keys
from agent.plan.drift_form import encode_expected, encode_findings
from tests.fakes.daemon import FakeCgroups, FakeWatch
from tests.fakes.fence import FakeFence

CONFIG = "/etc/containerd/config.toml"
KEYS = {("version",): 2, ("plugins", "cri", "snapshotter"): "nydus"}
GOOD = 'version = 2\n[plugins.cri]\nsnapshotter = "nydus"\n'
WANTS = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
DROP_IN = f"{paths.SNAPSHOTTER_UNIT_FILE}.d/50-x.conf"


class Tree:
    """A node's files below a directory, as they were applied; `now` goes by with each look."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        self.watch = FakeWatch()
        self.places = Places.below(str(root))
        self.write(paths.NYDUSD_TEMPLATE, "{}")
        self.write(paths.SNAPSHOTTER_UNIT_FILE, f"# {paths.MARK}\n")
        self.write(CONFIG, GOOD)
        self.write(WANTS, "")
        self.write(active_link(), "")
        for directory in (paths.STATE_DIR, paths.RUN_DIR):
            self.at(directory).mkdir(parents=True)
        files = (self.applied(paths.NYDUSD_TEMPLATE), self.applied(paths.SNAPSHOTTER_UNIT_FILE))
        self.expected = Expected(1, files, tuple(expected_keys(CONFIG, KEYS)), (WANTS,))
        self.publish(self.expected)
        self.drift = Drift(self.watch, CONFIG, self.places)
        self.drift.refresh(self.now)
        self.drift.ask(self.now)

    def at(self, path: str) -> Path:
        return self.root / path[1:]

    def write(self, path: str, text: str) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)

    def applied(self, path: str) -> ExpectedFile:
        file, content = self.at(path).stat(), self.at(path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return ExpectedFile(
            path, digest, file.st_mode & 0o7777, file.st_uid, file.st_gid, content.startswith(b"#")
        )

    def publish(self, expected: Expected) -> None:
        self.write(paths.EXPECTED, json.dumps(encode_expected(expected)))

    def root_found(self, *found: Finding, gave_up: tuple[str, ...] = ()) -> None:
        document = {"findings": encode_findings(found), "gave_up": gave_up}
        self.write(paths.DRIFT, json.dumps(document))
        self.event(self.places.drift)

    def event(self, path: str) -> bool:
        self.watch.touch(path)
        return self.drift.read_changes(self.now, 1_000_000 + self.now)

    def kinds(self) -> list[Kind]:
        return [one.kind for one in self.drift.findings]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    made.watch.close()


def test_a_node_as_it_was_applied_has_nothing_to_tell(tree: Tree) -> None:
    assert tree.drift.findings == ()
    assert tree.event(paths.NYDUSD_TEMPLATE) is False


def test_an_edited_file_is_known_with_its_event_and_so_is_its_end(tree: Tree) -> None:
    tree.write(paths.NYDUSD_TEMPLATE, '{"a": 1}')
    assert tree.event(paths.NYDUSD_TEMPLATE) is True
    assert tree.kinds() == [Kind.FILE_EDITED]
    tree.write(paths.NYDUSD_TEMPLATE, "{}")
    assert tree.event(paths.NYDUSD_TEMPLATE) is True
    assert tree.kinds() == []


def test_a_removed_file_and_a_masked_unit(tree: Tree) -> None:
    tree.at(paths.NYDUSD_TEMPLATE).unlink()
    tree.event(paths.NYDUSD_TEMPLATE)
    assert tree.kinds() == [Kind.FILE_REMOVED]
    tree.at(paths.SNAPSHOTTER_UNIT_FILE).unlink()
    tree.at(paths.SNAPSHOTTER_UNIT_FILE).symlink_to("/dev/null")
    tree.event(paths.SNAPSHOTTER_UNIT_FILE)
    assert tree.kinds() == [Kind.FILE_REMOVED, Kind.UNIT_MASKED]


def test_rights_that_were_changed(tree: Tree) -> None:
    tree.at(paths.NYDUSD_TEMPLATE).chmod(0o666)
    tree.event(paths.NYDUSD_TEMPLATE)
    assert tree.kinds() == [Kind.FILE_RIGHTS]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (GOOD + "[debug]\nlevel = 1\n", []),
        ("version = 2\n", [Kind.KEYS_LOST]),
        (GOOD.replace("nydus", "overlayfs"), [Kind.KEYS_CONTRADICTED]),
        ("this is no TOML", [Kind.KEYS_LOST]),
    ],
)
def test_containerds_file_is_judged_by_our_keys_alone(tree: Tree, text: str, kinds: list[Kind]) -> None:
    tree.write(CONFIG, text)
    tree.event(CONFIG)
    assert tree.kinds() == kinds


def test_a_unit_that_was_disabled(tree: Tree) -> None:
    tree.at(WANTS).unlink()
    tree.event(WANTS)
    assert tree.kinds() == [Kind.UNIT_DISABLED]


def test_a_drop_in_that_contradicts_is_known_and_one_that_was_there_is_not_told(tree: Tree) -> None:
    tree.write(DROP_IN, "[Service]\nKillMode=mixed\n")
    assert tree.event(str(Path(DROP_IN).parent)) is True  # its directory was made just now
    assert tree.kinds() == [Kind.UNIT_OVERRIDDEN]
    digest = hashlib.sha256(tree.at(DROP_IN).read_bytes()).hexdigest()
    tree.publish(replace(tree.expected, unit_files=((DROP_IN, digest),)))
    tree.event(tree.places.expected)
    assert tree.kinds() == []


def test_a_unit_that_does_not_run_is_told_after_the_time_of_a_restart(tree: Tree) -> None:
    tree.at(active_link()).unlink()
    assert tree.event(active_link()) is False
    tree.now += 1
    tree.write(active_link(), "")  # a restart
    tree.event(active_link())
    tree.now += 3
    tree.drift.ask(tree.now)
    assert tree.kinds() == []
    tree.at(active_link()).unlink()
    tree.event(active_link())
    tree.now += 2
    tree.drift.ask(tree.now)
    assert tree.kinds() == [Kind.UNIT_DOWN]
    tree.event(paths.NYDUSD_TEMPLATE)  # something else happens meanwhile
    assert tree.kinds() == [Kind.UNIT_DOWN]
    tree.write(active_link(), "")
    assert tree.event(active_link()) is True
    assert tree.kinds() == []


def test_a_unit_of_which_systemd_tells_nothing_is_roots_to_judge(tree: Tree) -> None:
    tree.at(active_link()).unlink()
    tree.at(active_link()).parent.rmdir()
    down = Finding(Kind.UNIT_DOWN, paths.SNAPSHOTTER_UNIT, "it is down", Remedy.REPAIR, "x")
    tree.root_found(down)
    assert tree.drift.findings == (down,)


def test_a_change_under_way_is_not_told_and_its_result_is_judged_when_it_is_over(tree: Tree) -> None:
    tree.write(paths.LOCK, "")
    inode = tree.at(paths.LOCK).stat().st_ino
    tree.write(
        "/proc/locks",
        f"1: POSIX  ADVISORY  WRITE 7 00:1c:9 0 EOF\n2: FLOCK  ADVISORY  WRITE 7 00:1c:{inode} 0 EOF\n",
    )
    tree.write(paths.NYDUSD_TEMPLATE, "new")
    assert tree.event(paths.NYDUSD_TEMPLATE) is False
    tree.drift.ask(tree.now + 1)
    assert tree.kinds() == []
    file = tree.applied(paths.NYDUSD_TEMPLATE)
    tree.publish(replace(tree.expected, files=(file, tree.expected.files[1])))
    tree.write("/proc/locks", "1: POSIX  ADVISORY  WRITE 7 00:1c:9 0 EOF\n")
    assert tree.event(tree.places.lock) is False
    assert tree.kinds() == []


def test_root_says_what_only_root_can_see_and_the_daemon_what_it_sees_itself(tree: Tree) -> None:
    outdated = Finding(Kind.CONTAINERD_OUTDATED, "containerd.service", "old", Remedy.REPAIR, "x")
    mended = Finding(Kind.FILE_EDITED, paths.NYDUSD_TEMPLATE, "was edited a while ago", Remedy.REPAIR, "x")
    tree.root_found(outdated, mended, gave_up=("the template: 5 times",))
    assert tree.drift.findings == (outdated,)
    assert tree.drift.gave_up == ("the template: 5 times",)
    tree.write(paths.NYDUSD_TEMPLATE, "edited")
    tree.event(paths.NYDUSD_TEMPLATE)
    assert tree.drift.findings == (mended, outdated)  # in root's words


def test_files_that_only_root_may_read_are_left_to_root(tree: Tree) -> None:
    tree.at(paths.NYDUSD_TEMPLATE).unlink()
    tree.at(paths.NYDUSD_TEMPLATE).mkdir()  # no regular file: nothing that the daemon reads
    edited = Finding(Kind.FILE_EDITED, paths.NYDUSD_TEMPLATE, "root says so", Remedy.REPAIR, "x")
    tree.root_found(edited)
    assert tree.drift.findings == (edited,)


def test_a_node_from_which_all_was_removed_has_no_drift(tree: Tree) -> None:
    tree.at(paths.NYDUSD_TEMPLATE).unlink()
    tree.at(paths.EXPECTED).unlink()
    tree.event(tree.places.expected)
    assert tree.drift.findings == ()


def test_the_directories_of_what_was_applied_are_watched_from_the_next_look_on(tree: Tree) -> None:
    program = tree.expected.files[0]
    tree.publish(replace(tree.expected, files=(replace(program, path="/opt/x/file"),)))
    tree.event(tree.places.expected)
    tree.drift.refresh(tree.now)
    assert "/opt/x" in tree.watch.directories
    assert str(Path(active_link()).parent) in tree.watch.directories


def test_the_condition_names_some_findings_and_counts_the_rest(tree: Tree) -> None:
    edited = Kind.PACKAGE_EDITED
    tree.root_found(
        *(Finding(edited, f"/usr/{n}", f"/usr/{n} was edited", Remedy.HAND, "x") for n in range(7))
    )
    lease = FenceLease(FakeFence(), FakeCgroups(), ("127.0.0.1", 4001))
    held = conditions(State(), lease, tree.drift, Problems(), symptoms="", around=False, refused="")
    (found,) = (one for one in held if one.type == "Drift")
    assert found.holds
    assert found.message.startswith("/usr/0 was edited; /usr/1 was edited; ")
    assert found.message.endswith("/usr/4 was edited; and 2 more")
