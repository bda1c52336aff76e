"""Removal: containerd as it was byte for byte, nothing of ours left, and never under running containers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import paths
from agent.apply import remove as removal
from agent.apply import services
from agent.errors import ApplyError, FileError
from agent.records import generations
from tests.fakes.units import unit
from tests.unit.plan_node import GOLDEN
from tests.unit.proved_node import CONFIG, ROOT, ProvedNode, quiet

NAMED_BEFORE = (GOLDEN / "containerd/page/before/config.toml").read_bytes()

IMAGE = f"{ROOT}/snapshots/3/mnt"
CONTAINER = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/pod/rootfs"
NYDUSD = f"nydusd {IMAGE} fuse.rafs rw,allow_other 0 0\n"
OVERLAY = f"overlay {CONTAINER} overlay rw,lowerdir={IMAGE},upperdir={ROOT}/snapshots/4/fs 0 0\n"


def mounted(made: ProvedNode, *lines: str) -> None:
    made.node.files.put("/proc/1/mounts", "".join(lines).encode())
    made.node.files.put(
        "/proc/77/cmdline", b"\0".join([b"nydusd", b"fuse", b"--mountpoint", IMAGE.encode(), b""])
    )


def remove(made: ProvedNode, *, force: bool = False) -> removal.Removed | None:
    return removal.remove_setup(CONFIG, made.node.ports, quiet(), force=force)


@pytest.fixture
def node() -> ProvedNode:
    made = ProvedNode()
    made.node.processes.on("du", stdout="119 /var/lib/containerd-nydus\n")
    made.apply()
    made.use_image()
    mounted(made, NYDUSD)
    return made


def test_after_a_removal_every_file_is_as_it_was(node: ProvedNode) -> None:
    removed = remove(node)
    assert removed is not None
    assert node.etc() == node.before
    assert paths.SNAPSHOTTER_UNIT not in node.node.units.units
    assert paths.EFFECTIVE not in node.node.files.files
    assert paths.PROOF not in node.node.files.files
    assert not node.node.snapshotter.answering


def test_what_stays_is_named_with_its_size(node: ProvedNode) -> None:
    removed = remove(node)
    assert removed is not None
    what = "images and snapshots, which containerd's database refers to"
    assert removed.stays == (f"{ROOT} (119 MiB): {what}; to clear it: crictl rmi --prune && rm -rf {ROOT}",)


def test_a_nydusd_whose_mount_cannot_be_told_is_not_ended(node: ProvedNode) -> None:
    """A container may stand on it."""
    mounted(node, NYDUSD, OVERLAY)
    path = "/proc/77/cmdline"
    node.node.files.unreadable[path] = FileError("NNA0422", f"cannot read {path}", cause="Permission denied")
    removed = remove(node, force=True)
    assert removed is not None
    assert removed.ended == ()
    assert not any(argv[0] == "kill" for argv in node.node.processes.ran)


def test_containers_on_the_applied_root_count_whatever_root_the_configuration_names_by_now(
    node: ProvedNode,
) -> None:
    mounted(node, NYDUSD, OVERLAY)
    edited = replace(CONFIG, snapshotter=replace(CONFIG.snapshotter, root="/var/lib/elsewhere"))
    with pytest.raises(ApplyError) as caught:
        removal.remove_setup(edited, node.node.ports, quiet(), force=False)
    assert caught.value.code == "NNA0411"
    mounted(node, NYDUSD)
    removed = removal.remove_setup(edited, node.node.ports, quiet(), force=False)
    assert removed is not None
    assert removed.ended == (IMAGE,)
    assert node.etc() == node.before


def test_nydusd_that_nobody_uses_ends_with_the_snapshotter(node: ProvedNode) -> None:
    removed = remove(node)
    assert removed is not None
    assert removed.ended == (IMAGE,)
    ran = node.node.processes.ran
    assert ran.index((*services.UNMOUNT, IMAGE)) < ran.index(("kill", "-TERM", "77"))


def test_containers_of_other_snapshotters_are_none_of_our_business(node: ProvedNode) -> None:
    mounted(
        node,
        "overlay /run/x overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/1/fs "
        "0 0\n",
    )
    assert remove(node) is not None


def test_a_second_removal_has_nothing_to_do(node: ProvedNode) -> None:
    remove(node)
    inodes = node.node.files.inodes()
    assert remove(node) is None
    assert node.node.files.inodes() == inodes
    assert generations.applied(node.node.files) is None


def test_a_removal_after_which_containerd_does_not_answer_is_undone(node: ProvedNode) -> None:
    before = node.etc()
    node.node.units.fail_job(paths.CONTAINERD_UNIT, "restart")
    with pytest.raises(ApplyError) as caught:
        remove(node)
    assert caught.value.code == "NNA0402"
    assert node.etc() == before
    assert node.node.units.units[paths.SNAPSHOTTER_UNIT].active_state == "active"


def test_a_removal_that_leaves_cri_on_the_snapshotter_is_undone(node: ProvedNode) -> None:
    before = node.etc()
    node.node.units.on_job.append(lambda _name, _verb: setattr(node.node.containerd, "mountpoints", (ROOT,)))
    with pytest.raises(ApplyError, match="still uses the snapshotter"):
        remove(node)
    assert node.etc() == before


def test_where_systemd_does_not_run_the_files_go_and_nothing_is_restarted(node: ProvedNode) -> None:
    node.node.units.systemd_running = False
    node.node.containerd.up = False
    jobs = len(node.node.faults.calls)
    assert remove(node) is not None
    assert node.etc() == node.before
    assert not [
        call for call in node.node.faults.calls[jobs:] if call[0] in ("job", "enable", "disable", "reload")
    ]


def test_applying_again_after_a_removal_is_a_new_generation(node: ProvedNode) -> None:
    remove(node)
    outcome = node.apply()
    assert outcome.generation == 3
    assert len(generations.history(node.node.files)) == 1
    removed = remove(node)
    assert removed is not None
    assert node.etc() == node.before


def before_us(*, enabled: bool, active: bool) -> ProvedNode:
    """A packaged snapshotter as it was before our first apply; then two of ours."""
    made = ProvedNode()
    made.node.files.put(paths.PACKAGED_UNIT_FILE, b"[Service]\n")
    made.node.units.units[paths.SNAPSHOTTER_UNIT] = unit(paths.SNAPSHOTTER_UNIT, enabled=enabled)
    if active:
        made.node.units.job(paths.SNAPSHOTTER_UNIT, "start", deadline_s=1)
    made.node.processes.on("du", code=1)
    made.before = made.etc()
    made.apply()
    # And somebody was wrong since, which our next apply mended.
    made.node.units.disable(paths.SNAPSHOTTER_UNIT)
    made.apply()
    made.use_image()
    mounted(made, NYDUSD, OVERLAY)
    return made


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("active", [True, False])
def test_a_snapshotter_that_was_there_before_us_ends_as_it_was(*, enabled: bool, active: bool) -> None:
    made = before_us(enabled=enabled, active=active)
    removed = remove(made, force=True)
    assert removed is not None
    now = made.node.units.units[paths.SNAPSHOTTER_UNIT]
    assert (now.unit_file_state == "enabled", now.active_state == "active") == (enabled, active)
    assert (made.etc(), removed.ended) == (made.before, ())


def test_a_removal_whose_handing_back_fails_is_undone_with_our_snapshotter_up() -> None:
    made = before_us(enabled=True, active=True)
    before = made.etc()
    made.node.units.fail_job(paths.SNAPSHOTTER_UNIT, "start")
    with pytest.raises(ApplyError) as caught:
        remove(made, force=True)
    assert caught.value.code == "NNA0402"
    now = made.node.units.units[paths.SNAPSHOTTER_UNIT]
    assert (made.etc(), now.fragment_path) == (before, paths.SNAPSHOTTER_UNIT_FILE)
    assert (now.active_state, now.unit_file_state) == ("active", "enabled")
    assert made.node.snapshotter.answering


@pytest.mark.parametrize("enabled", [True, False])
def test_taken_off_at_boot_a_snapshotter_that_was_there_before_us_is_enabled_as_it_was(
    *, enabled: bool
) -> None:
    made = before_us(enabled=enabled, active=enabled)
    link = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
    made.node.files.link(link, paths.SNAPSHOTTER_UNIT_FILE)
    made.node.processes.on("systemctl")
    removal.remove_files(CONFIG, made.node.ports, quiet())
    # Where it must not start, systemd is left with ours, which does not start without its configuration.
    asked = ("systemctl", "daemon-reload") in made.node.processes.ran
    assert (link in made.node.files.links, asked) == (enabled, enabled)
    assert paths.SNAPSHOTTER_UNIT_FILE not in made.node.files.files


def test_a_containerd_that_used_a_snapshotter_before_us_uses_it_again() -> None:
    made = ProvedNode()
    made.node.files.put(CONFIG.containerd.config, NAMED_BEFORE)
    made.node.files.put(paths.PACKAGED_UNIT_FILE, b"[Service]\n")
    made.node.units.units[paths.SNAPSHOTTER_UNIT] = unit(paths.SNAPSHOTTER_UNIT)
    for name in (paths.SNAPSHOTTER_UNIT, paths.CONTAINERD_UNIT):
        made.node.units.job(name, "restart", deadline_s=1)
    made.node.processes.on("du", code=1)
    before = made.etc()
    made.apply()
    made.use_image()
    mounted(made, NYDUSD)
    removed = remove(made)
    assert removed is not None
    # Its images stand on these nydusd, whether a container runs from them now or not.
    assert (made.etc(), removed.ended) == (before, ())
    assert made.node.units.units[paths.SNAPSHOTTER_UNIT].active_state == "active"
    assert made.node.containerd.mountpoints == (ROOT,)
