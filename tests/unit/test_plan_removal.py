"""Removal: narrow first, what others wrote stays, nothing of ours does."""

from __future__ import annotations

import tomllib

import pytest

from agent import paths
from agent.config.model import Config
from agent.containerd.view import KEYS, at
from agent.errors import PlanError
from agent.node.observe import observe
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.steps import Former, Plan, RemoveFile, WriteFile
from tests.fakes.files import FakeFile
from tests.fakes.node import FakeNode
from tests.fakes.units import unit
from tests.unit.plan_node import (
    CONTAINERD_CONFIG,
    GOLDEN,
    PLAIN,
    STOCK,
    carry_out,
    config,
    look,
    node,
    verbs,
    writes,
)

WANTED = config(PLAIN)
NOBODYS = Former()
"""No snapshotter was there."""


def applied(made: FakeNode) -> tuple[WriteFile, ...]:
    found = plan(WANTED, look(made, WANTED))
    carry_out(made, found)
    return tuple(writes(found).values())


def planned(made: FakeNode, records: tuple[WriteFile, ...], former: Former = NOBODYS) -> Plan:
    return removal(
        WANTED, observe(WANTED, made.ports, extra_paths=[paths.PACKAGED_UNIT_FILE]), records, former
    )


def removed(made: FakeNode, records: tuple[WriteFile, ...], former: Former = NOBODYS) -> Plan:
    found = planned(made, records, former)
    carry_out(made, found)
    return found


def contents(made: FakeNode) -> dict[str, FakeFile]:
    return {
        path: FakeFile(file.content, file.mode, file.uid, file.gid) for path, file in made.files.files.items()
    }


def test_containerd_forgets_the_snapshotter_before_it_stops() -> None:
    made = node()
    found = removed(made, applied(made))
    assert verbs(found) == [
        f"restart {paths.CONTAINERD_UNIT}", f"stop {paths.SNAPSHOTTER_UNIT}",
        f"disable {paths.SNAPSHOTTER_UNIT}",
    ]  # fmt: skip


def test_removal_of_what_is_not_there_is_empty() -> None:
    made = node()
    records = applied(made)
    removed(made, records)
    assert planned(made, records).empty


def test_what_others_wrote_since_stays() -> None:
    made = node()
    records = applied(made)
    edited = made.files.files[CONTAINERD_CONFIG].content.replace(
        b"version = 2\n", b"version = 2 # ours\noom_score = -5\n"
    )
    made.files.put(CONTAINERD_CONFIG, edited)
    found = removed(made, records)
    assert made.files.files[CONTAINERD_CONFIG].content == STOCK.replace(
        b"version = 2\n", b"version = 2 # ours\noom_score = -5\n"
    )
    assert any("was edited since: only ours is taken out" in text for text in found.warnings)


def test_a_snapshotter_that_the_operator_chose_since_stays_chosen() -> None:
    made = node()
    records = applied(made)
    made.files.put(
        CONTAINERD_CONFIG,
        made.files.files[CONTAINERD_CONFIG].content.replace(
            b'snapshotter = "nydus"', b'snapshotter = "native"'
        ),
    )
    removed(made, records)
    after = tomllib.loads(made.files.files[CONTAINERD_CONFIG].content.decode())
    assert at(after, KEYS[2].snapshotter) == "native"
    assert at(after, ("proxy_plugins",)) is None


@pytest.mark.parametrize("now", [b"proxy_plugins.nydus = [\n", b"nydus\xff"])
def test_containerd_is_never_left_with_the_name_of_a_snapshotter_that_is_gone(now: bytes) -> None:
    made = node()
    records = applied(made)
    made.files.put(CONTAINERD_CONFIG, now)
    with pytest.raises(PlanError) as caught:
        planned(made, records)
    assert (caught.value.code, CONTAINERD_CONFIG in caught.value.try_) == ("NNA0313", True)


def test_a_hosts_file_that_somebody_replaced_since_is_theirs() -> None:
    made = node()
    records = applied(made)
    path = f"/etc/containerd/certs.d/{PLAIN.host}/hosts.toml"
    made.files.put(path, b'server = "https://theirs.example"\n')
    found = removed(made, records)
    assert path in made.files.files
    assert any("replaced since by somebody else" in text for text in found.warnings)


@pytest.mark.parametrize("now", [b"version = [\n", b"\xff"])
def test_a_file_that_cannot_be_edited_any_more_is_left_alone_and_named(now: bytes) -> None:
    made = node()
    records = applied(made)
    made.files.put(CONTAINERD_CONFIG, now)
    found = removed(made, records)
    assert made.files.files[CONTAINERD_CONFIG].content == now
    assert any("take the snapshotter out of it by hand" in text for text in found.warnings)


OWN = b"[Unit]\nDescription=nydus snapshotter\n[Service]\nExecStart=/usr/bin/containerd-nydus-grpc\n"


@pytest.mark.parametrize("path", [paths.SNAPSHOTTER_UNIT_FILE, paths.PACKAGED_UNIT_FILE])
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("active", [True, False])
def test_somebody_s_own_snapshotter_ends_as_it_was(path: str, *, enabled: bool, active: bool) -> None:
    made = node()
    made.files.put(path, OWN)
    if path == paths.PACKAGED_UNIT_FILE:
        made.units.units[paths.SNAPSHOTTER_UNIT] = unit(paths.SNAPSHOTTER_UNIT, enabled=enabled)
    made.units.reload()
    (made.units.enable if enabled else made.units.disable)(paths.SNAPSHOTTER_UNIT)
    if active:
        made.units.job(paths.SNAPSHOTTER_UNIT, "start", deadline_s=1)
    found = removed(made, applied(made), Former(active, enabled))
    assert made.files.files[path].content == OWN
    now = made.units.units[paths.SNAPSHOTTER_UNIT]
    assert (now.fragment_path, now.unit_file_state == "enabled", now.active_state == "active") == (
        path, enabled, active,
    )  # fmt: skip
    # While our KillMode is in force: another unit's might end what running containers stand on.
    stopped = verbs(found).index(f"stop {paths.SNAPSHOTTER_UNIT}")
    assert verbs(found)[stopped - 1] == f"restart {paths.CONTAINERD_UNIT}"
    assert f"restart {paths.SNAPSHOTTER_UNIT}" not in verbs(found)


def test_what_others_stopped_or_disabled_since_stays_so() -> None:
    made = node()
    made.files.put(paths.PACKAGED_UNIT_FILE, OWN)
    records = applied(made)
    made.units.job(paths.SNAPSHOTTER_UNIT, "stop", deadline_s=1)
    made.units.disable(paths.SNAPSHOTTER_UNIT)
    assert verbs(removed(made, records, Former(active=True, enabled=True))) == [
        f"restart {paths.CONTAINERD_UNIT}"
    ]


def test_a_snapshotter_whose_package_went_meanwhile_is_not_asked_for_and_told() -> None:
    made = node()
    records = applied(made)
    found = removed(made, records, Former(active=True, enabled=True))
    assert verbs(found)[1:] == [f"stop {paths.SNAPSHOTTER_UNIT}", f"disable {paths.SNAPSHOTTER_UNIT}"]
    assert f"the {paths.SNAPSHOTTER_UNIT} that was there before the agent is gone" in found.warnings


@pytest.mark.parametrize("active", [True, False])
def test_a_snapshotter_that_containerd_named_before_us_runs_on_its_files_before_containerd_asks(
    active: bool,
) -> None:
    made = node()
    made.files.put(CONTAINERD_CONFIG, (GOLDEN / "containerd/page/before/config.toml").read_bytes())
    made.files.put(paths.PACKAGED_UNIT_FILE, OWN)
    made.units.units[paths.SNAPSHOTTER_UNIT] = unit(paths.SNAPSHOTTER_UNIT, active=True, pid=7)
    found = removed(made, applied(made), Former(active, enabled=True))
    assert verbs(found) == [f"restart {paths.SNAPSHOTTER_UNIT}", f"restart {paths.CONTAINERD_UNIT}"]
    order = [
        step.path if isinstance(step, (WriteFile, RemoveFile)) else type(step).__name__
        for step in found.steps
    ]
    assert order.index(paths.SNAPSHOTTER_UNIT_FILE) < order.index("UnitStep") < order.index(CONTAINERD_CONFIG)
    # One that did not run before us may be broken: that is no reason to stay.
    assert ("AwaitSnapshotter" in order) is active


def test_a_node_that_used_nydus_before_us_uses_it_after_us() -> None:
    made = node()
    made.files.put(CONTAINERD_CONFIG, (GOLDEN / "containerd/page/before/config.toml").read_bytes())
    found = removed(made, applied(made))
    assert f"stop {paths.SNAPSHOTTER_UNIT}" not in verbs(found)
    assert any("no unit of it is left" in text for text in found.warnings)


def test_the_config_that_we_had_made_goes_again() -> None:
    made = node()
    made.files.drop(CONTAINERD_CONFIG)
    records = applied(made)
    removed(made, records)
    assert CONTAINERD_CONFIG not in made.files.files


def test_images_on_the_node_stay_usable_because_the_root_stays() -> None:
    made = node()
    found = removed(made, applied(made))
    assert any("stays" in text for text in found.notes)
    assert not [
        step for step in found.steps if getattr(step, "path", "").startswith(Config().snapshotter.root)
    ]


def test_a_record_without_the_written_content_is_enough() -> None:
    """The undo records hold digests of what was written, not the bytes."""
    made = node()
    before = contents(made)
    records = tuple(
        WriteFile(
            one.path,
            b"",
            one.mode,
            one.reason,
            one.expect_sha256,
            one.content_before,
            one.mode_before,
            owned=one.owned,
        )
        for one in applied(made)
    )
    removed(made, records)
    assert contents(made) == before
