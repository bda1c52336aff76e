"""Drift by root's eyes, on a node of fakes that was set up and proved."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent import paths
from agent.documents.drift import Finding, Kind, Remedy
from agent.errors import FileError, ProcessError
from agent.plan.repair import compare
from agent.ports import RunningProgram
from agent.proof import drift
from agent.records import generations
from agent.steps import Plan, WriteFile
from tests.unit import change_stage
from tests.unit.plan_node import CONTAINERD_CONFIG
from tests.unit.proved_node import ProvedNode, in_use, with_programs

TEMPLATE = paths.NYDUSD_TEMPLATE
PROGRAM = "/usr/local/bin/nydusd"


@pytest.fixture
def node() -> ProvedNode:
    return in_use(with_programs(ProvedNode()))


def look(made: ProvedNode) -> drift.DriftFound:
    return drift.find_drift(made.config, made.node.ports)


def only(made: ProvedNode) -> Finding:
    (found,) = look(made).findings
    return found


def test_a_node_as_it_was_applied_has_no_drift_and_nothing_that_could_not_be_seen(node: ProvedNode) -> None:
    looked = look(node)
    assert looked.findings == ()
    assert looked.unseen == ()


def test_a_node_on_which_nothing_was_applied_has_no_drift() -> None:
    assert look(ProvedNode()) == drift.DriftFound(None)


def test_what_everyone_may_read_holds_no_content(node: ProvedNode) -> None:
    file = node.node.files.files[paths.EXPECTED]
    assert file.mode == 0o644
    published = drift.read_expected(node.node.files)
    assert published is not None
    assert {*published.files} >= {
        TEMPLATE, paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE, CONTAINERD_CONFIG,
    }  # fmt: skip
    assert {one.name for one in published.programs} == {"nydusd", "nydus-image", "snapshotter", "containerd"}
    assert b"plain.example" not in file.content.replace(b"/plain.example:5000/hosts.toml", b"")


def test_a_unit_that_others_stopped_disabled_or_masked(node: ProvedNode) -> None:
    node.unit(active_state="failed", sub_state="failed", result="exit-code")
    assert (only(node).kind, only(node).remedy) == (Kind.UNIT_DOWN, Remedy.REPAIR)
    node.unit(active_state="active", needs_reload=True)
    assert only(node).kind is Kind.UNIT_NOT_READ
    node.unit(needs_reload=False, load_state="masked")
    node.node.files.unreadable[paths.SNAPSHOTTER_UNIT_FILE] = FileError(
        "NNA0421", "no file", cause="a device"
    )
    looked = look(node)
    assert [one.kind for one in looked.findings] == [Kind.UNIT_MASKED]
    assert looked.unseen == ()


def test_a_link_that_enabled_the_unit_and_is_gone(node: ProvedNode) -> None:
    wants = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
    node.node.files.link(wants, "..")
    accepted = look(node).generation
    assert accepted is not None
    drift.publish_expected(node.node.ports, accepted)
    assert look(node).findings == ()
    node.node.files.remove_link(wants)
    assert (only(node).kind, only(node).remedy) == (Kind.UNIT_DISABLED, Remedy.REPAIR)


def test_a_drop_in_that_contradicts_and_one_with_which_the_proof_passed(node: ProvedNode) -> None:
    path = f"{paths.SNAPSHOTTER_UNIT_FILE}.d/50-x.conf"
    node.node.files.put(path, b"[Service]\nRestart=no\n")
    node.unit(drop_in_paths=(path,))
    found = only(node)
    assert (found.kind, found.subject, found.remedy) == (Kind.UNIT_OVERRIDDEN, path, Remedy.HAND)
    assert "Restart=no" in found.what
    accepted = look(node).generation
    assert accepted is not None
    drift.publish_expected(node.node.ports, accepted)
    assert look(node).findings == ()


def test_a_program_that_was_replaced_is_told_and_the_same_one_laid_there_anew_is_not(
    node: ProvedNode,
) -> None:
    files = node.node.files
    content = files.files[PROGRAM].content
    files.put(PROGRAM, content, mode=0o755)
    assert look(node).findings == ()
    files.put(PROGRAM, content + b"newer", mode=0o755)
    assert (only(node).kind, only(node).remedy) == (Kind.PROGRAM_REPLACED, Remedy.APPLY)
    files.drop(PROGRAM)
    assert "is gone" in only(node).what


def test_an_apply_that_has_nothing_to_do_proves_the_new_program_and_knows_it_then(node: ProvedNode) -> None:
    files = node.node.files
    files.put(PROGRAM, files.files[PROGRAM].content + b"newer", mode=0o755)
    assert only(node).try_ == "sudo nydus-agent apply"
    assert node.apply().changed is False
    assert look(node).findings == ()
    before = files.inodes()
    assert node.apply().changed is False
    assert files.inodes() == before  # and then it writes nothing at all


def test_a_process_that_runs_what_is_not_on_the_disk_any_more(node: ProvedNode) -> None:
    made = node.node
    runs = RunningProgram(PROGRAM, replaced=True)
    made.processes.running[77] = runs, made.files.sha256(PROGRAM) or ""
    assert look(node).findings == ()  # the same bytes
    made.processes.running[77] = runs, "0" * 64
    found = only(node)
    assert (found.kind, found.subject, found.remedy) == (Kind.PROGRAM_OUTDATED, "nydusd", Remedy.HAND)
    assert found.evidence == ("nydusd d1, process 77",)


def test_a_containerd_that_runs_on_another_configuration_than_its_file(node: ProvedNode) -> None:
    node.node.containerd.mountpoints = ("/var/lib/containerd/overlayfs",)
    found = only(node)
    assert (found.kind, found.remedy) == (Kind.CONTAINERD_OUTDATED, Remedy.REPAIR)
    assert "/var/lib/containerd/overlayfs" in found.what
    content = node.node.files.files[CONTAINERD_CONFIG].content
    node.node.files.put(CONTAINERD_CONFIG, content.replace(b'snapshotter = "nydus"', b""))
    assert only(node).kind is Kind.KEYS_LOST  # the file is at fault, not the daemon


def test_a_mount_that_has_another_configuration_than_was_applied(node: ProvedNode) -> None:
    daemons = node.node.nydusd.daemons
    (socket,) = daemons
    info = daemons[socket]
    document = json.loads(json.dumps(info.backends[0][1]))
    del document["backend"]["registry"]["proxy"]
    daemons[socket] = replace(info, backends=(("/", document),))
    found = only(node)
    assert (found.kind, found.remedy) == (Kind.NYDUSD_DIFFERS, Remedy.HAND)
    assert "no proxy" in found.evidence[0]


def test_a_file_of_our_package_that_was_edited(node: ProvedNode) -> None:
    told = "??5??????   /usr/share/nydus-node-agent/agent/cli.py\n??5?????? c /etc/nydus-agent/agent.toml\n"
    told += "missing     /usr/share/doc/nydus-node-agent/README\nmissing     /usr/bin/nydus-agent\n"
    node.node.processes.on("dpkg", "--verify", code=1, stdout=told)
    looked = look(node)
    assert [one.subject for one in looked.findings] == [
        "/usr/share/nydus-node-agent/agent/cli.py", "/usr/bin/nydus-agent",
    ]  # fmt: skip
    assert {one.kind for one in looked.findings} == {Kind.PACKAGE_EDITED}


def test_what_cannot_be_read_is_told_as_unknown_and_never_as_fine(node: ProvedNode) -> None:
    node.node.files.unreadable[TEMPLATE] = FileError(
        "NNA0421", f"cannot use {TEMPLATE}", cause="no permission"
    )
    assert look(node).unseen == (f"{TEMPLATE} could not be looked at: no permission",)


def test_where_no_child_can_be_started_no_program_is_called_gone_or_replaced(node: ProvedNode) -> None:
    node.node.processes.cannot_start = "[Errno 13] Permission denied: '/dev/null'"
    looked = look(node)
    assert looked.findings == ()
    assert looked.unseen == (
        "our own package could not be looked at: [Errno 13] Permission denied: '/dev/null'",
    )
    files = node.node.files
    files.put(PROGRAM, files.files[PROGRAM].content + b"newer", mode=0o755)
    assert "was replaced" in only(node).what  # and what needs no child is seen all the same


def test_a_program_that_cannot_be_looked_at_is_neither_gone_nor_as_it_was(node: ProvedNode) -> None:
    node.node.files.unreadable[PROGRAM] = FileError(
        "NNA0422", f"cannot look at {PROGRAM}", cause="Permission denied"
    )
    looked = look(node)
    assert looked.findings == ()
    assert looked.unseen == (f"{PROGRAM} could not be looked at: Permission denied",)
    accepted = looked.generation
    assert accepted is not None
    before = drift.read_expected(node.node.files)
    drift.publish_expected(node.node.ports, accepted)
    assert drift.read_expected(node.node.files) == before  # what is known of it is not forgotten


def test_a_process_that_cannot_be_looked_at_may_run_anything(node: ProvedNode) -> None:
    node.node.processes.unseen[77] = ProcessError("NNA0221", "cannot see it", cause="Permission denied")
    looked = look(node)
    assert looked.findings == ()
    assert looked.unseen == ("the programs of running nydusd could not be looked at: Permission denied",)


def test_an_apply_with_nothing_to_do_proves_the_node_where_nobody_can_say_that_its_programs_are_the_same(
    node: ProvedNode,
) -> None:
    files = node.node.files
    assert not drift.programs_replaced(files)
    files.unreadable[PROGRAM] = FileError("NNA0422", f"cannot look at {PROGRAM}", cause="Permission denied")
    assert drift.programs_replaced(files)


def test_what_is_told_is_written_once_and_hides_secrets(node: ProvedNode) -> None:
    files = node.node.files
    finding = Finding(Kind.KEYS_CONTRADICTED, "x", "x", Remedy.HAND, "y", ('auth.password = "geheim"',))
    looked = replace(look(node), findings=(finding,))
    drift.tell(node.node.ports, looked)
    assert b"geheim" not in files.files[paths.DRIFT].content
    inode = files.files[paths.DRIFT].inode
    node.node.clock.advance(1)
    drift.tell(node.node.ports, looked)
    assert files.files[paths.DRIFT].inode == inode
    drift.tell(node.node.ports, drift.DriftFound(None))
    assert paths.DRIFT not in files.files


def test_what_the_daemon_must_know_is_made_again_where_it_is_missing(node: ProvedNode) -> None:
    before = node.node.files.files[paths.EXPECTED].content
    node.node.files.drop(paths.EXPECTED)
    drift.tell(node.node.ports, look(node))
    assert node.node.files.files[paths.EXPECTED].content == before


def test_a_file_that_only_root_may_read_must_stay_so() -> None:
    path = "/etc/containerd/conf.d/zz-nydus-agent.toml"  # it may hold a copy of somebody's credentials
    content = f"# {paths.MARK}\n".encode()
    step = WriteFile(path, content, 0o600, "because", "", None)
    node = change_stage.a_node()
    change_stage.apply(node, Plan((step,)))
    (record,) = drift.recorded(generations.history(node.files))
    assert record.mode == 0o600
    assert compare(record, node.files.read(path)) is None
    node.files.put(path, content, mode=0o644)
    difference = compare(record, node.files.read(path))
    assert difference is not None
    assert [one.kind for one in difference.findings] == [Kind.FILE_RIGHTS]
