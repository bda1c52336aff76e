"""`nydus-agent artifacts` as it answers: in words, in JSON as described, and with the exit code."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import paths
from agent.__main__ import main
from agent.apply import journal
from agent.apply.undo import PutBack
from agent.artifacts.fetching import Progress
from agent.artifacts.lock import ArtifactName, render
from agent.commands import (
    artifacts,
    artifacts_install,
    artifacts_list,
    artifacts_lock,
    artifacts_prune,
    artifacts_rollback,
    artifacts_verify,
    artifacts_which,
)
from agent.commands.context import Context
from agent.commands.transfer import TransferProgress, bar, line
from agent.config.model import Config
from agent.console import Console, Format
from agent.errors import ArtifactError, Exit, LockedError
from tests.fakes.clock import FakeClock
from tests.unit.artifact_node import config, install, release, store
from tests.unit.artifacts import elf
from tests.unit.test_artifact_apply import Node
from tests.unit.test_artifact_provide import Place, published
from tests.unit.test_schema import complaints

CURRENT = config()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Asked:
    """One run of an action on a node of fakes."""

    def __init__(
        self,
        place: Place | Node,
        action: str,
        *words: str,
        form: Format = Format.TEXT,
        wanted: Config = CURRENT,
        uid: int = 0,
    ) -> None:
        out, err = io.StringIO(), io.StringIO()
        context = Context(Console(out, err, form), uid=uid)
        module = artifacts.load(action)
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        args, ports = parser.parse_args(words), place.node.artifact_ports
        runs: dict[str, Callable[[], Exit]] = {
            "install": lambda: artifacts_install.install(args, context, wanted, ports),
            "list": lambda: artifacts_list.show(context, wanted, ports),
            "which": lambda: artifacts_which.show(args.program, context, wanted, ports),
            "verify": lambda: artifacts_verify.verify(args.set, context, wanted, ports),
            "rollback": lambda: artifacts_rollback.roll_back(context, wanted, ports),
            "prune": lambda: artifacts_prune.prune(args, context, wanted, ports),
            "lock": lambda: artifacts_lock.lock(args, context, wanted, ports),
        }
        self.exit = runs[action]()
        self.text, self.beside = out.getvalue(), err.getvalue()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        assert complaints(found) == []
        return found


def with_lock() -> Place:
    """A lock of three releases where the operator's lies."""
    made = Place()
    made.node.files.put(paths.ARTIFACTS_LOCK, render(made.lock))
    return made


@pytest.fixture
def place() -> Place:
    return with_lock()


def test_install_says_what_is_there_now_and_what_to_do_next(place: Place) -> None:
    asked = Asked(place, "install")
    assert asked.exit is Exit.OK
    assert "nydus v2.4.4, nydus-snapshotter v0.16.1: installed in" in asked.text
    assert "nydus-agent plan, then nydus-agent apply" in asked.text
    assert "nydus v2.4.4 (amd64): 0.0 of 0.0 MiB, 100%" in asked.beside
    assert "is there already" in Asked(place, "install").text


def test_install_in_json_prints_nothing_but_the_result(place: Place) -> None:
    asked = Asked(place, "install", "--nydus", "2.4.3", form=Format.JSON)
    assert asked.beside == ""
    assert asked.json["fetched"] is True
    assert [one["version"] for one in asked.json["set"]["artifacts"]] == ["v2.4.3", "v0.16.1"]
    assert asked.json["lock"]["serial"] == place.lock.serial


def test_who_uses_the_system_s_programs_is_told_that_nothing_follows(place: Place) -> None:
    assert 'set [artifacts] nydus and snapshotter to "current"' in Asked(place, "install", wanted=Config()).text
    assert "pins nydus 2.4.4" in Asked(place, "install", wanted=config("2.4.4", "system")).text


def test_a_trusted_release_is_named_with_its_digest(place: Place) -> None:
    published(place, {ArtifactName.NYDUS: "2.4.9"})
    asked = Asked(place, "install", "--nydus", "2.4.9", "--trust-release-checksum", wanted=Config())
    assert "nydus v2.4.9 (amd64) was taken by its release's own checksum; sha256" in asked.beside


@pytest.fixture
def applied() -> Node:
    """A node on the second of two sets."""
    made = Node()
    made.apply()
    install(made.node, nydus="v2.4.5")
    made.apply()
    return made


def test_list_shows_what_is_current_and_why_each_is_needed(applied: Node) -> None:
    running = f"/proc/812 {applied.first.directory}/programs/nydusd\n"
    applied.node.processes.on("find", "/proc", code=1, stdout=running)
    lines = Asked(applied, "list").text.splitlines()
    assert "v2.4.5  v0.16.1" in lines[1]
    assert "current" in lines[1]
    assert "snapshotter.toml names it" in lines[1]
    assert "previous" in lines[2]
    assert "nydus-snapshotter.service names it" in lines[2]
    found = Asked(applied, "list", form=Format.JSON).json
    assert [one["role"] for one in found["sets"]] == ["current", "previous"]
    assert all(one["needed"] for one in found["sets"])


def test_list_answers_everyone_but_only_root_can_tell_what_is_needed(applied: Node) -> None:
    found = Asked(applied, "list", form=Format.JSON, uid=1000).json
    assert {one["needed"] for one in found["sets"]} == {None}
    assert "only root can tell" in Asked(applied, "list", uid=1000).text


def test_an_empty_store_says_how_to_fill_it(place: Place) -> None:
    place.node.processes.on("find", "/proc", stdout="")
    asked = Asked(place, "list")
    assert (asked.exit, "nydus-agent artifacts install" in asked.text) == (Exit.OK, True)
    assert Asked(place, "list", form=Format.JSON).json["sets"] == []


def test_which_prints_paths_versions_and_where_they_are_from(applied: Node) -> None:
    asked = Asked(applied, "which")
    assert f"{applied.current[:12]}" in asked.text
    assert Asked(applied, "which", "nydusd").text == f"{paths.ARTIFACTS}/{applied.current}/nydusd\n"
    assert {one["set"] for one in Asked(applied, "which", form=Format.JSON).json["programs"]} >= {applied.current}
    assert "PATH" in Asked(applied, "which", wanted=Config()).text


def test_which_says_why_a_program_cannot_be_used(place: Place) -> None:
    asked = Asked(place, "which")
    assert asked.exit is Exit.NOT_AS_WANTED
    assert "nothing is installed below" in asked.beside
    assert len(Asked(place, "which", form=Format.JSON).json["unfit"]) == 2


def test_verify_names_what_is_damaged_and_the_command_that_mends_it(applied: Node) -> None:
    assert Asked(applied, "verify").exit is Exit.OK
    applied.node.files.put(f"{applied.first.directory}/nydusd", elf(b"evil"))
    asked = Asked(applied, "verify")
    assert asked.exit is Exit.NOT_AS_WANTED
    assert f"{applied.first.directory}/nydusd: its bytes are others" in asked.text
    assert "nydus-agent artifacts install --nydus v2.4.4 --snapshotter v0.16.1" in asked.text
    assert Asked(applied, "verify", "current").exit is Exit.OK
    assert [one["ok"] for one in Asked(applied, "verify", applied.first.id[:8], form=Format.JSON).json["sets"]] == [
        False
    ]
    with pytest.raises(ArtifactError) as error:
        Asked(applied, "verify", "zzz")
    assert error.value.code == "NNA1136"


def test_rollback_makes_the_previous_set_current_and_says_that_apply_is_next(applied: Node) -> None:
    asked = Asked(applied, "rollback")
    assert f"set {applied.first.id[:12]} is current again" in asked.text
    assert "nydus-agent apply" in asked.text
    assert applied.current == applied.first.id
    assert Asked(applied, "rollback", form=Format.JSON).json["before"]["id"] == applied.first.id
    with pytest.raises(ArtifactError):
        Asked(Place(), "rollback")


def test_prune_keeps_what_the_node_stands_on(applied: Node) -> None:
    applied.node.processes.on("find", "/proc", stdout="")
    spare = install(applied.node, nydus="v2.4.6")
    for version in ("v2.4.7", "v2.4.8"):
        install(applied.node, nydus=version)
    asked = Asked(applied, "prune", "--keep", "0", form=Format.JSON).json
    assert [one["id"] for one in asked["removed"]] == [spare.id]
    left = {one.id for one in applied.store.sets()}
    assert {applied.first.id} < left  # the snapshotter's unit still names it
    needed = {one["id"]: one["needed"] for one in asked["stays"]}
    assert "names it" in needed[applied.first.id]


def test_prune_tells_of_a_set_that_does_not_say_what_it_is(applied: Node) -> None:
    applied.node.processes.on("find", "/proc", stdout="")
    before = applied.current
    for form in (Format.TEXT, Format.JSON):
        spare = install(applied.node, nydus="v2.4.6", snapshotter="v0.16.9")
        for other in (applied.first.id, before):  # so that no link leads to it
            applied.store.switch(other)
        applied.node.files.put(f"{spare.directory}/set.json", b"{}")
        would = Asked(applied, "prune", "--dry-run", form=form)
        assert spare.id[:12] in would.text
        asked = Asked(applied, "prune", form=form)
        if form is Format.TEXT:
            assert f"removed: set {spare.id[:12]}, which did not say what it was" in asked.text
            assert f"would be removed: set {spare.id[:12]}, which did not say what it was" in would.text
        else:
            assert (asked.json["unreadable"], asked.json["removed"]) == ([spare.id], [])
            assert (would.json["unreadable"], would.json["removed"]) == ([spare.id], [])
        applied.node.files.drop(f"{spare.directory}/set.json")


def test_prune_forgets_older_generations_only_when_asked_to(applied: Node) -> None:
    applied.node.processes.on("find", "/proc", stdout="")
    for nydus, snapshotter in (("v2.4.6", "v0.16.2"), ("v2.4.7", "v0.16.3"), ("v2.4.8", "v0.16.4")):
        install(applied.node, nydus=nydus, snapshotter=snapshotter)
        applied.apply()
    assert Asked(applied, "prune", "--keep", "0", form=Format.JSON).json["removed"] == []
    would = Asked(applied, "prune", "--keep", "0", "--forget-rollbacks", "--dry-run", form=Format.JSON).json
    assert len(applied.store.sets()) == 5
    gone = Asked(applied, "prune", "--keep", "0", "--forget-rollbacks", form=Format.JSON).json
    assert [one["id"] for one in gone["removed"]] == [one["id"] for one in would["removed"]]
    versions = [one.version(ArtifactName.NYDUS) for one in applied.store.sets()]
    assert versions == ["v2.4.8", "v2.4.7"]


def test_prune_removes_nothing_where_it_cannot_see_what_runs(applied: Node) -> None:
    with pytest.raises(Exception, match="cannot run find"):
        Asked(applied, "prune", "--keep", "0")
    with applied.node.ledger.lock("apply"), pytest.raises(LockedError):
        Asked(applied, "prune")


def test_a_set_under_a_running_program_stays(applied: Node) -> None:
    spare = install(applied.node, nydus="v2.4.6")
    for version in ("v2.4.7", "v2.4.8"):
        install(applied.node, nydus=version)
    running = f"/proc/9 {spare.directory}/programs/nydusd (deleted)\n"
    applied.node.processes.on("find", "/proc", stdout=running)
    asked = Asked(applied, "prune", "--keep", "0")
    assert f"stays: set {spare.id[:12]}: process 9 runs nydusd (deleted) of it" in asked.text
    assert spare in applied.store.sets()


def test_a_set_that_an_open_journal_may_go_back_to_stays(applied: Node) -> None:
    applied.node.processes.on("find", "/proc", stdout="")
    spare = install(applied.node, nydus="v2.4.6")
    for version in ("v2.4.7", "v2.4.8"):
        install(applied.node, nydus=version)
    log = journal.ChangeJournal(applied.node.ledger)
    log.begin(journal.Begin("x", "apply", 3, 0.0, containerd_answered=True, mountpoint=""), reserve=0)
    before = f'nydusd_path = "{spare.directory}/nydusd"\n'.encode()
    log.intend("write", PutBack(paths.SNAPSHOTTER_CONFIG, before, b""))
    asked = Asked(applied, "prune", "--keep", "0")
    assert f"stays: set {spare.id[:12]}: an interrupted change may be undone to it" in asked.text


def test_apply_installs_what_is_pinned_and_says_so(place: Place) -> None:
    out, err = io.StringIO(), io.StringIO()
    context = Context(Console(out, err), uid=0)
    wanted, ports = config("2.4.4", "0.16.1"), place.node.artifact_ports
    provided = artifacts_install.missing(wanted, context, ports)
    assert provided is not None
    assert "not installed yet: nydus 2.4.4 and nydus-snapshotter 0.16.1" in err.getvalue()
    assert store(place.node).current() is None
    assert artifacts_install.missing(wanted, context, ports) is None
    assert artifacts_install.missing(config(), context, ports) is None


def told(clock: FakeClock, steps: list[Progress], err: io.StringIO) -> str:
    transfer = TransferProgress(Console(io.StringIO(), err), clock)
    for step in steps:
        transfer(step)
    transfer.end()
    return err.getvalue()


MIB = 1 << 20


def test_a_log_gets_a_line_for_each_tenth_and_no_more() -> None:
    steps = [Progress("nydus", number * MIB, 100 * MIB, 2.0 * MIB) for number in range(101)]
    lines = told(FakeClock(), steps, io.StringIO()).splitlines()
    assert len(lines) == 11
    assert lines[5] == "nydus: 50.0 of 100.0 MiB, 50%, 2.0 MiB/s, 25 s left"


def test_a_slow_download_is_told_of_every_few_seconds() -> None:
    clock, err = FakeClock(), io.StringIO()
    transfer = TransferProgress(Console(io.StringIO(), err), clock)
    for number in range(20):
        transfer(Progress("nydus", number, 10_000, 1.0))
        clock.sleep(1.0)
    assert len(err.getvalue().splitlines()) == 4


def test_a_terminal_gets_one_line_with_a_bar_that_goes_away() -> None:
    err = Terminal()
    steps = [Progress("nydus", half * 50 * MIB, 100 * MIB, MIB) for half in range(3)]
    text = told(FakeClock(), steps, err)
    assert "\n" not in text
    assert "[############............]" in text
    assert text.endswith("\r\x1b[K")


def test_a_note_is_told_once_and_an_unknown_length_is_no_division() -> None:
    steps = [Progress("nydus", number, 0, 0.0, "one connection instead of 4") for number in range(3)]
    assert told(FakeClock(), steps, io.StringIO()).count("one connection") == 1
    assert line(steps[0]) == "nydus: 0.0 MiB"
    assert bar(steps[0]) == f"[{'.' * 24}]"


def test_the_actions_stand_on_the_command_line_and_root_s_need_root(tmp_path: Path) -> None:
    for action, code in (("list", 0), ("install", 2), ("prune", 2), ("frobnicate", 2)):
        out, err = io.StringIO(), io.StringIO()
        where = ["--config", str(tmp_path / "a.toml"), "--conf-d", str(tmp_path)]
        seen = main([*where, "artifacts", action], environment={}, out=out, err=err, uid=1000, root=str(tmp_path))
        assert seen == code, err.getvalue()


def test_the_releases_of_the_tests_are_those_of_the_fakes(place: Place) -> None:
    assert {str(one) for one in place.artifacts} >= {str(release(ArtifactName.NYDUS, "v2.4.3"))}
