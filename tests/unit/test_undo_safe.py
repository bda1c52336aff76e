"""An undo that cannot do all of it: containerd never keeps the name of a snapshotter that was taken away."""

from __future__ import annotations

import pytest

from agent import paths
from agent.apply import recover
from agent.containerd.view import names_snapshotter
from agent.errors import ApplyError, FileError, PlanError
from tests.fakes.faults import Crash
from tests.unit import change_stage
from tests.unit.proved_node import CONFIG, ProvedNode
from tests.unit.test_apply_remove import remove

CONTAINERD_CONFIG = CONFIG.containerd.config
FULL = FileError("NNA0427", "cannot write", cause="No space left on device")
ENABLED_BY = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"


def replacing(path: str, calls: list[tuple[str, ...]]) -> int:
    """How manyth call of replace is the last one of this path."""
    return max(
        nth for nth, call in enumerate((one for one in calls if one[0] == "replace"), 1) if call[1] == path
    )


def undone_as_far_as_can_be() -> ProvedNode:
    """containerd did not restart on its new configuration, and its old one could not be written."""
    seen = ProvedNode()
    seen.apply()
    made = ProvedNode()
    made.node.containerd.mountpoints = ("/var/lib/containerd/overlayfs",)
    made.node.units.fail_job(paths.CONTAINERD_UNIT, "restart")
    until = seen.node.faults.calls.index(("job", paths.CONTAINERD_UNIT, "restart"))
    written = sum(call[0] == "replace" for call in seen.node.faults.calls[:until])
    made.node.faults.at(written + 1, FULL, method="replace")
    with pytest.raises(ApplyError) as caught:
        made.apply()
    assert caught.value.code == "NNA0403"
    assert any(CONTAINERD_CONFIG in one and "No space left" in one for one in caught.value.seen)
    assert any(paths.SNAPSHOTTER_UNIT in one and "NOT put back" in one for one in caught.value.seen)
    return made


def test_a_configuration_that_cannot_be_put_back_keeps_the_snapshotter_that_it_names() -> None:
    made = undone_as_far_as_can_be()
    assert names_snapshotter(made.node.files.files[CONTAINERD_CONFIG].content)
    unit = made.node.units.units[paths.SNAPSHOTTER_UNIT]
    assert (unit.active_state, unit.unit_file_state) == ("active", "enabled")
    assert paths.NYDUSD_TEMPLATE in made.node.files.files


def test_once_it_can_the_next_run_puts_back_all_of_it() -> None:
    made = undone_as_far_as_can_be()
    assert recover.finish(made.node.ports, jobs=True, say=lambda _: None) is not None
    assert made.etc() == made.before
    assert paths.SNAPSHOTTER_UNIT not in made.node.units.units


def interrupted_removal() -> ProvedNode:
    """Killed when all was taken away, before it was accepted."""
    made = ProvedNode()
    made.apply()
    made.node.faults.at(2, Crash(), method="reload")
    made.node.faults.at(1, Crash(), method="reload", after=True)
    with pytest.raises(Crash):
        remove(made)
    made.node.faults.clear()
    return made


def test_a_removal_undone_at_boot_has_the_snapshotter_enabled_and_on_its_way_before_containerd() -> None:
    made = interrupted_removal()
    made.node.processes.on("systemctl")
    recover.finish(made.node.ports, jobs=False, say=lambda _: None)
    asked = [argv[1:] for argv in made.node.processes.ran if argv[0] == "systemctl"]
    assert asked == [
        ("--root=/", "--quiet", "enable", paths.SNAPSHOTTER_UNIT),
        ("--no-block", "--quiet", "start", paths.SNAPSHOTTER_UNIT),
    ]


def test_at_boot_systemd_reads_again_whose_unit_is_in_force_where_there_are_two() -> None:
    made = interrupted_removal()
    made.node.files.put(paths.PACKAGED_UNIT_FILE, b"[Service]\n")
    made.node.processes.on("systemctl")
    recover.finish(made.node.ports, jobs=False, say=lambda _: None)
    asked = [argv[1:] for argv in made.node.processes.ran if argv[0] == "systemctl"]
    assert asked[0] == ("daemon-reload",)
    assert asked[-1] == ("--no-block", "--quiet", "start", paths.SNAPSHOTTER_UNIT)
    assert paths.SNAPSHOTTER_UNIT_FILE in made.node.files.files


def test_a_snapshotter_that_cannot_be_enabled_at_boot_is_not_named_again() -> None:
    made = interrupted_removal()
    made.node.processes.on("systemctl", code=1)
    with pytest.raises(ApplyError) as caught:
        recover.finish(made.node.ports, jobs=False, say=lambda _: None)
    assert paths.SNAPSHOTTER_UNIT in caught.value.cause
    assert not names_snapshotter(made.node.files.files[CONTAINERD_CONFIG].content)


def test_a_change_undone_at_boot_calls_off_the_start_that_systemd_has_queued() -> None:
    node = change_stage.a_node()
    node.faults.at(1, Crash(), method="enable", after=True)
    with pytest.raises(Crash):
        change_stage.apply(node)
    node.files.link(ENABLED_BY, paths.SNAPSHOTTER_UNIT_FILE)
    node.processes.on("systemctl")
    change_stage.finish(node, jobs=False)
    assert ENABLED_BY not in node.files.links
    assert node.processes.ran[-1] == ("systemctl", "--no-block", "--quiet", "stop", paths.SNAPSHOTTER_UNIT)


def test_a_recovery_killed_before_systemd_has_read_that_the_unit_is_gone_is_finished_by_the_next() -> None:
    node = change_stage.a_node()
    node.faults.at(1, Crash(), method="enable", after=True)
    with pytest.raises(Crash):
        change_stage.apply(node)
    node.faults.clear()
    node.faults.at(1, Crash(), method="reload")
    with pytest.raises(Crash):
        change_stage.finish(node, jobs=True)
    node.faults.clear()
    assert paths.SNAPSHOTTER_UNIT_FILE not in node.files.files
    assert paths.SNAPSHOTTER_UNIT in node.units.units
    change_stage.finish(node, jobs=True)
    assert change_stage.state(node) == change_stage.OLD_STATE
    assert paths.SNAPSHOTTER_UNIT not in node.units.units


def test_what_could_not_be_recorded_for_good_is_taken_back_before_it_is_undone() -> None:
    """The generation's file is there, and then its directory cannot be written: half accepted must not be."""
    node = change_stage.a_node()
    generation = f"{paths.GENERATIONS}/1.json"
    node.faults.at(
        replacing(generation, change_stage.calls_of_an_apply()), FULL, method="replace", after=True
    )
    with pytest.raises(ApplyError) as caught:
        change_stage.apply(node)
    assert caught.value.code == "NNA0402"
    assert generation not in node.files.files
    assert change_stage.state(node) == change_stage.OLD_STATE


def test_what_cannot_be_taken_back_is_not_undone_either_and_the_next_run_finishes_it() -> None:
    node = change_stage.a_node()
    generation = f"{paths.GENERATIONS}/1.json"
    node.faults.at(
        replacing(generation, change_stage.calls_of_an_apply()), FULL, method="replace", after=True
    )
    node.faults.at(calls("remove", generation) + 1, FULL, method="remove")
    with pytest.raises(ApplyError) as caught:
        change_stage.apply(node)
    assert caught.value.code == "NNA0403"
    assert change_stage.state(node) == change_stage.NEW_STATE
    done = change_stage.finish(node)
    assert done is not None
    assert done.finished
    assert change_stage.state(node) == change_stage.NEW_STATE


def calls(method: str, before: str) -> int:
    """Calls of a method in an apply, before a file is written."""
    found = change_stage.calls_of_an_apply()
    return sum(call[0] == method for call in found[: found.index(("replace", before))])


def test_a_removal_that_is_killed_once_it_is_accepted_still_leaves_nothing() -> None:
    made = ProvedNode()
    made.apply()
    made.node.faults.at(1, Crash(), method="remove_empty_directory")
    with pytest.raises(Crash):
        remove(made)
    assert made.etc() != made.before
    done = recover.finish(made.node.ports, jobs=True, say=lambda _: None)
    assert done is not None
    assert done.finished
    assert made.etc() == made.before
    assert paths.PROOF not in made.node.files.files


@pytest.mark.parametrize("path", [CONTAINERD_CONFIG, paths.SNAPSHOTTER_UNIT_FILE, paths.NYDUSD_TEMPLATE])
def test_a_removal_that_cannot_read_what_it_must_change_is_refused(path: str) -> None:
    """What cannot be read at this moment may name the snapshotter: it must not go from under it."""
    made = ProvedNode()
    made.apply()
    made.node.files.unreadable[path] = FileError("NNA0427", "cannot read", cause="Input/output error")
    before = made.node.files.snapshot()
    with pytest.raises(PlanError) as caught:
        remove(made)
    assert caught.value.code == "NNA0303"
    assert path in caught.value.what + caught.value.cause
    assert made.node.files.snapshot() == before


def test_hosts_files_that_cannot_be_read_are_left_and_named() -> None:
    made = ProvedNode()
    made.apply()
    path = next(path for path in made.node.files.files if path.endswith("/hosts.toml") and "certs.d" in path)
    made.node.files.unreadable[path] = FileError("NNA0427", "cannot read", cause="Input/output error")
    removed = remove(made)
    assert removed is not None
    assert any(path in warning for warning in removed.plan.warnings)
