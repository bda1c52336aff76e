"""What a plan does not do to images that run, or were unpacked before: mounts end by no restart, roots do not
move.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent import paths
from agent.config.model import Config, SnapshotterConfig
from agent.errors import FileError, PlanError
from agent.facts.node import Facts, FileFact, SnapshotterRoot, Unknown
from agent.node.snapshotter import read_drop_ins as drop_ins
from agent.plan import images, mounts
from agent.plan.diff import plan
from agent.steps import Plan, ReloadUnits, RemoveFile, UnitStep, UnitVerb, WriteFile
from agent.system.files import RootFiles
from tests.fakes.containerd import nydus_plugin
from tests.fakes.node import FakeNode
from tests.fakes.units import unit
from tests.unit.plan_node import carry_out, look, node

DROP_IN = f"/etc/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/50-kill.conf"
THEIRS = "/var/lib/containerd/io.containerd.snapshotter.v1.nydus"
RESTART = UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.RESTART, "")
STOP = UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.STOP, "")
RELOAD = ReloadUnits("")


def running(kill_mode: str = "process", *names: str, text: str = "", needs_reload: bool = False) -> Facts:
    """A snapshotter that runs, and drop-ins with this text."""
    made = node()
    carry_out(made, plan(Config(), look(made, Config())))
    facts = look(made, Config())
    found = tuple(
        FileFact(f"/etc/systemd/system/x.d/{name}", text.encode(), "", 0o644, 0, 0) for name in names
    )
    seen = replace(
        unit(paths.SNAPSHOTTER_UNIT, active=True, pid=7), kill_mode=kill_mode, needs_reload=needs_reload,
        drop_in_paths=tuple(one.path for one in found),
    )  # fmt: skip
    return replace(facts, snapshotter_unit=seen, snapshotter_drop_ins=found)


def codes(facts: Facts, *steps: UnitStep | ReloadUnits | WriteFile | RemoveFile) -> list[str]:
    return [one.code for one in mounts.ending_refusals(Plan(steps), facts)]


@pytest.mark.parametrize(
    ("text", "mode", "refused"),
    [
        ("[Service]\nKillMode=control-group\n", "control-group", True),
        ("[Service]\nKillMode=mixed\n", "mixed", True),
        ("[Service]\nKillMode=none\n", "none", False),
        ("[Service]\nKillMode=process\n", "process", False),
        ("[Service]\nKillMode=all\n", "process", False),
        ("[Unit]\nKillMode=mixed\n", "process", False),
        ("[Service]\nKillMode=mixed\nKillMode=process\n", "process", False),
    ],
)
def test_a_drop_in_counts_as_systemd_takes_it(text: str, mode: str, *, refused: bool) -> None:
    for verb in (RESTART, STOP):
        assert bool(codes(running(mode, "50.conf", text=text), verb)) is refused
        # Written and not yet read: it counts from the plan's own reload on.
        late = running("process", "50.conf", text=text, needs_reload=True)
        assert codes(late, verb) == []
        assert bool(codes(late, RELOAD, verb)) is refused


def test_what_systemd_has_loaded_counts_until_it_reads_again() -> None:
    gone = running("control-group", needs_reload=True)
    (refused,) = mounts.ending_refusals(Plan((RESTART,)), gone)
    assert "KillMode=control-group" in refused.reason
    assert codes(gone, RELOAD, RESTART) == []
    assert codes(gone, UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.ENABLE, ""), RESTART) == []


@pytest.mark.parametrize(
    ("own", "drop_in", "needs_reload", "refused"),
    [
        ("KillMode=process", "KillMode=control-group", False, True),
        ("KillMode=process", "KillMode=control-group", True, True),
        ("", "LimitNOFILE=1", True, True),
        ("KillMode=mixed", "KillMode=process", False, False),
        ("KillMode=mixed", "KillMode=process", True, False),
    ],
)
def test_no_restart_of_containerd_ends_the_shims_of_containers(
    own: str, drop_in: str, *, needs_reload: bool, refused: bool
) -> None:
    made, mode = node(), "process" if needs_reload or not refused else "control-group"
    own_file, theirs = "/lib/containerd.service", "/etc/systemd/system/containerd.service.d/50.conf"
    made.files.put(own_file, f"[Service]\n{own}\n".encode())
    made.files.put(theirs, f"[Service]\n{drop_in}\n".encode())
    made.units.units[paths.CONTAINERD_UNIT] = replace(
        unit(paths.CONTAINERD_UNIT, active=True, pid=500), kill_mode=mode, fragment_path=own_file,
        drop_in_paths=(theirs,), needs_reload=needs_reload,
    )  # fmt: skip
    facts = look(made, Config())
    if not refused:
        plan(Config(), facts)
        return
    with pytest.raises(PlanError, match=r"KillMode=control-group for containerd.service.*shims") as caught:
        plan(Config(), facts)
    assert caught.value.code == "NNA0304"


def test_the_file_and_the_value_are_named() -> None:
    (refused,) = mounts.ending_refusals(
        Plan((RESTART,)), running("mixed", "50.conf", text="[Service]\nKillMode=mixed\n")
    )
    assert refused.code == "NNA0304"
    assert "/etc/systemd/system/x.d/50.conf sets KillMode=mixed" in refused.reason
    assert "take KillMode out of /etc/systemd/system/x.d/50.conf" in refused.try_


def test_a_snapshotter_that_does_not_run_has_no_mounts_to_end() -> None:
    facts = running("control-group")
    assert isinstance(facts.snapshotter_unit, type(unit("x")))
    assert (
        codes(
            replace(facts, snapshotter_unit=replace(facts.snapshotter_unit, active_state="inactive")), RESTART
        )
        == []
    )
    assert codes(replace(facts, snapshotter_unit=None), RESTART) == []


def test_a_unit_of_others_is_judged_by_its_own_file_once_ours_is_gone() -> None:
    facts = running()
    ours = facts.file(paths.SNAPSHOTTER_UNIT_FILE)
    assert isinstance(ours, FileFact)
    packaged = FileFact(paths.PACKAGED_UNIT_FILE, b"[Service]\nExecStart=/usr/bin/x\n", "", 0o644, 0, 0)
    away = RemoveFile(ours.path, "", ours.sha256, ours.content, ours.mode)
    assert codes(replace(facts, files=(*facts.files, packaged)), away, RELOAD, RESTART) == ["NNA0304"]
    assert codes(facts, away, RELOAD, RESTART) == [], "as it was loaded"


def test_drop_ins_that_cannot_be_read_are_not_taken_for_none() -> None:
    facts = replace(running(needs_reload=True), snapshotter_drop_ins=Unknown("no permission"))
    (refused,) = mounts.ending_refusals(Plan((RELOAD, RESTART)), facts)
    assert "cannot be told: no permission" in refused.reason
    assert codes(facts, RESTART) == []


def test_drop_ins_are_found_where_systemd_looks_and_in_its_order() -> None:
    made = FakeNode()
    late = replace(unit(paths.SNAPSHOTTER_UNIT, active=True), needs_reload=True)
    for path in (
        f"/run/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/10-a.conf",
        f"/etc/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/50-b.conf",
        f"/usr/lib/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/50-b.conf",
        "/usr/lib/systemd/system/nydus-.service.d/20-c.conf",
        "/etc/systemd/system/service.d/30-d.conf",
        f"/etc/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/README",
    ):
        made.files.put(path, b"[Service]\n")
    found = drop_ins(late, made.files)
    assert isinstance(found, tuple)
    assert [one.path for one in found] == [
        f"/run/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/10-a.conf",
        "/usr/lib/systemd/system/nydus-.service.d/20-c.conf",
        "/etc/systemd/system/service.d/30-d.conf",
        f"/etc/systemd/system/{paths.SNAPSHOTTER_UNIT}.d/50-b.conf",
    ]
    late = replace(late, fragment_path=f"/usr/lib/systemd/system/{paths.SNAPSHOTTER_UNIT}")
    for place in (late.fragment_path, paths.SNAPSHOTTER_UNIT_FILE):
        made.files.put(place, b"[Service]\n")
        own = drop_ins(late, made.files, own=True)
        assert isinstance(own, tuple)
        assert own[0].path == place, "the directory that counts most has the unit that the reload reads"
    made.files.unreadable["/etc/systemd/system/service.d/30-d.conf"] = FileError(
        "NNA0422", "cannot read", cause="no"
    )
    assert isinstance(drop_ins(late, made.files), Unknown)
    assert drop_ins(None, made.files) == ()


@pytest.mark.parametrize("target", ["/dev/null", "/nowhere"])
def test_a_masked_drop_in_is_no_obstacle_and_hides_what_it_masks(tmp_path: Path, target: str) -> None:
    """As systemd.unit(5) has it: a link to /dev/null."""
    for directory in ("etc", "usr/lib"):
        (tmp_path / directory / "systemd/system/service.d").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/service.d/10-kill.conf").write_text("[Service]\nKillMode=mixed\n")
    (tmp_path / "etc/systemd/system/service.d/10-kill.conf").symlink_to(target)
    (tmp_path / "etc/systemd/system/service.d/20-other.conf").write_text("[Service]\nNice=1\n")
    late = replace(unit(paths.SNAPSHOTTER_UNIT, active=True), needs_reload=True)
    found = drop_ins(late, RootFiles(str(tmp_path)))
    assert isinstance(found, tuple)
    assert [one.path for one in found] == ["/etc/systemd/system/service.d/20-other.conf"]


# The root.


def settled(root: str = THEIRS, images: int = 1, *, serves: bool = True) -> FakeNode:
    """A node with a snapshotter of somebody, whose root this is, and images that it has unpacked."""
    made = node()
    made.files.put("/etc/theirs.toml", f'root = "{root}"\n'.encode())
    made.files.put(f"{root}/metadata.db", b"bolt")
    theirs = replace(
        unit(paths.SNAPSHOTTER_UNIT, active=serves, pid=7 if serves else 0),
        command=("/usr/bin/containerd-nydus-grpc", "--config", "/etc/theirs.toml"),
    )
    made.units.units[paths.SNAPSHOTTER_UNIT] = theirs
    made.containerd.namespace_images["k8s.io"] = []
    made.containerd.unpacked_by["nydus", "k8s.io"] = {f"sha256:{at}" for at in range(images)}
    return made


def wanted(root: str) -> Config:
    return Config(snapshotter=SnapshotterConfig(root=root))


def test_the_root_of_a_snapshotter_that_was_there_is_kept_with_its_images() -> None:
    made = settled()
    found = plan(Config(), look(made, Config()))
    assert any(f"snapshotter.root {THEIRS} is kept" in note for note in found.notes)
    texts = [step.content for step in found.steps if isinstance(step, WriteFile)]
    assert sum(f'root = "{THEIRS}"'.encode() in text for text in texts) == 2, "the snapshotter and containerd"
    assert not any(b"/var/lib/containerd-nydus" in text for text in texts)


@pytest.mark.parametrize("serves", [True, False])
def test_another_root_is_refused_with_the_way(*, serves: bool) -> None:
    made = settled(serves=serves)
    with pytest.raises(PlanError) as refused:
        plan(wanted("/var/lib/elsewhere"), look(made, wanted("/var/lib/elsewhere")))
    assert refused.value.code == "NNA0305"
    told = f"{refused.value.cause} {refused.value.try_}"
    for part in (
        'snapshotter.root = "/var/lib/elsewhere"',
        THEIRS,
        "/etc/theirs.toml: root",
        "1 unpacked",
        "crictl rmi",
    ):
        assert part in told


def test_without_an_image_there_the_root_is_what_the_configuration_says() -> None:
    made = settled(images=0)
    for root in (Config().snapshotter.root, "/var/lib/elsewhere"):
        found = plan(wanted(root), look(made, wanted(root)))
        assert any(
            f'root = "{root}"'.encode() in step.content for step in found.steps if isinstance(step, WriteFile)
        )
    made.containerd.snapshots["nydus", "k8s.io"] = {"sha256:a": {}}
    made.containerd.plugin_facts = (*made.containerd.plugin_facts, nydus_plugin("/run/x.sock", THEIRS))
    with pytest.raises(PlanError):
        plan(wanted("/var/lib/elsewhere"), look(made, wanted("/var/lib/elsewhere")))


def test_a_containerd_that_cannot_be_asked_is_not_taken_for_empty() -> None:
    made = settled()
    made.containerd.up = False
    with pytest.raises(PlanError, match="could not be read"):
        plan(wanted("/var/lib/elsewhere"), look(made, wanted("/var/lib/elsewhere")))
    assert any(f"{THEIRS} is kept" in note for note in plan(Config(), look(made, Config())).notes)


@pytest.mark.parametrize(
    "command",
    [
        ("/usr/bin/containerd-nydus-grpc", "--root", THEIRS),
        ("/usr/bin/containerd-nydus-grpc", f"--root={THEIRS}", "--config", "/etc/none.toml"),
        ("/usr/bin/containerd-nydus-grpc",),
        ("/usr/bin/containerd-nydus-grpc", "--nydusd-config", "/etc/nydus/config.json"),
    ],
)
def test_a_root_is_found_on_the_command_line_or_where_upstream_s_programs_have_it(
    command: tuple[str, ...],
) -> None:
    made = settled()
    theirs = made.units.units[paths.SNAPSHOTTER_UNIT]
    made.units.units[paths.SNAPSHOTTER_UNIT] = replace(theirs, command=command)
    assert look(made, Config()).snapshotter_root.path == THEIRS


def test_what_the_process_has_open_counts_more_than_what_its_file_says_by_now() -> None:
    made = settled("/var/lib/real")
    made.files.put("/etc/theirs.toml", f'root = "{THEIRS}"\n'.encode())
    made.processes.on("find", "/proc/7/fd", stdout="/var/lib/real/nydus.db\n")
    assert look(made, Config()).snapshotter_root == SnapshotterRoot(
        "/var/lib/real", f"process 7 of {paths.SNAPSHOTTER_UNIT}", 1
    )


def test_a_root_that_is_reached_through_a_link_is_the_wanted_one_under_its_other_name() -> None:
    made = settled("/data/nydus")
    made.files.put("/data/nydus/nydus.db", b"bolt")
    for name in ("nydus.db", "metadata.db"):
        made.files.link(f"/srv/nydus/{name}", f"/data/nydus/{name}")
    made.processes.on("find", "/proc/7/fd", stdout="/data/nydus/nydus.db\n")
    assert look(made, wanted("/srv/nydus")).snapshotter_root == SnapshotterRoot()
    plan(wanted("/srv/nydus"), look(made, wanted("/srv/nydus")))


def test_the_wanted_root_asks_containerd_nothing() -> None:
    made = settled(Config().snapshotter.root)
    facts = look(made, Config())
    assert facts.snapshotter_root == SnapshotterRoot()
    assert images.kept_root(Config(), facts) == Config()
