"""What a repair would do, and how often it does it before it is left to people."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent import paths
from agent.config.model import ContainerdConfig
from agent.documents.drift import Finding, Kind, Remedy
from agent.facts.node import Facts, FileFact, UnitFact
from agent.plan import limits
from agent.plan.limits import FORGET_REPAIRS_S, MOST_REPAIRS, Repaired
from agent.plan.repair import IMPORTS, Recorded, Running, compare, repair
from agent.steps import CheckContainerdConfig, Plan, ReloadUnits, WriteFile
from tests.fakes.units import unit
from tests.unit import plan_node
from tests.unit.plan_node import CONTAINERD_CONFIG, verbs, writes

TEMPLATE = Recorded(paths.NYDUSD_TEMPLATE, b"{}", 0o644, 0, 0, whole=True)
UNIT = Recorded(paths.SNAPSHOTTER_UNIT_FILE, b"# Managed by nydus-agent\n", 0o644, 0, 0, whole=True)
HOSTS = Recorded(
    "/etc/containerd/certs.d/docker.io/hosts.toml", b"# Managed by nydus-agent\n", 0o644, 0, 0, whole=True
)
KEYS: Mapping[tuple[str, ...], object] = {
    ("version",): 2,
    ("proxy_plugins", "nydus", "type"): "snapshot",
    ("proxy_plugins", "nydus", "address"): "/run/x.sock",
}
CONTAINERD = Recorded(CONTAINERD_CONFIG, b"", 0o644, 0, 0, whole=False, keys=KEYS)
RECORDS = (TEMPLATE, UNIT, HOSTS, CONTAINERD)
READ = Running("", frozenset({TEMPLATE.path, UNIT.path}))


def facts(*files: FileFact, snapshotter: UnitFact | None = None) -> Facts:
    seen = plan_node.look(plan_node.node(), plan_node.config())
    running = snapshotter or unit(paths.SNAPSHOTTER_UNIT, active=True, pid=9)
    return replace(seen, files=files, snapshotter_unit=running)


def file(record: Recorded, content: bytes, mode: int = 0o644) -> FileFact:
    return FileFact(record.path, content, hashlib.sha256(content).hexdigest(), mode, 0, 0)


def found(kind: Kind, subject: str, remedy: Remedy = Remedy.REPAIR) -> Finding:
    return Finding(kind, subject, "x", remedy, "y")


def plan(
    seen: Facts, *findings: Finding, running: Running = READ, records: tuple[Recorded, ...] = RECORDS
) -> Plan:
    """For these findings, of all that the files say."""
    facts_of = {one.path: one for one in seen.files if isinstance(one, FileFact)}
    compared = [compare(record, facts_of.get(record.path)) for record in records]
    differences = [one for one in compared if one is not None]
    told = {(one.kind, one.subject): one for difference in differences for one in difference.findings}
    mend = [told.get((one.kind, one.subject), one) for one in findings]
    return repair(differences, mend, seen, running, ContainerdConfig())


def test_only_what_is_found_is_put_back() -> None:
    seen = facts(file(TEMPLATE, b"edited"), file(HOSTS, b"# Managed by nydus-agent, and edited"))
    made = plan(seen, found(Kind.FILE_EDITED, HOSTS.path))
    assert {path: step.content for path, step in writes(made).items()} == {HOSTS.path: HOSTS.content}
    assert verbs(made) == []  # hosts.toml files are read at every pull


@pytest.mark.parametrize("kind", [Kind.FILE_TAKEN_OVER, Kind.KEYS_CONTRADICTED, Kind.UNIT_OVERRIDDEN])
def test_what_others_want_otherwise_is_never_touched(kind: Kind) -> None:
    subject = CONTAINERD_CONFIG if kind is Kind.KEYS_CONTRADICTED else TEMPLATE.path
    assert plan(facts(file(TEMPLATE, b"theirs")), found(kind, subject, Remedy.HAND)).empty


def test_the_snapshotter_restarts_only_where_it_may_have_read_the_edit() -> None:
    seen, edited = facts(file(TEMPLATE, b"edited")), found(Kind.FILE_EDITED, TEMPLATE.path)
    assert verbs(plan(seen, edited)) == [f"restart {paths.SNAPSHOTTER_UNIT}"]
    assert verbs(plan(seen, edited, running=Running())) == []


def test_rights_are_put_back_without_any_restart() -> None:
    made = plan(facts(file(TEMPLATE, b"{}", mode=0o666)), found(Kind.FILE_RIGHTS, TEMPLATE.path))
    (step,) = made.steps
    assert isinstance(step, WriteFile)
    assert (step.mode, step.mode_before) == (0o644, 0o666)
    assert verbs(made) == []


def test_a_removed_unit_file_is_written_and_read_and_the_unit_started() -> None:
    stopped = replace(unit(paths.SNAPSHOTTER_UNIT), active_state="failed")
    made = plan(facts(snapshotter=stopped), found(Kind.FILE_REMOVED, UNIT.path))
    assert [type(step) for step in made.steps[:2]] == [WriteFile, ReloadUnits]
    assert verbs(made) == [f"start {paths.SNAPSHOTTER_UNIT}"]


def test_a_unit_that_was_stopped_and_disabled_is_enabled_and_started() -> None:
    stopped = replace(unit(paths.SNAPSHOTTER_UNIT), unit_file_state="disabled")
    name = paths.SNAPSHOTTER_UNIT
    made = plan(facts(snapshotter=stopped), found(Kind.UNIT_DOWN, name), found(Kind.UNIT_DISABLED, name))
    assert verbs(made) == [f"enable {name}", f"start {name}"]


def test_our_keys_go_back_beside_what_others_have_written() -> None:
    text = b'version = 2\n# of the package\nroot = "/srv"\n'
    made = plan(facts(file(CONTAINERD, text)), found(Kind.KEYS_LOST, CONTAINERD_CONFIG))
    check, write = made.steps
    assert isinstance(check, CheckContainerdConfig)
    assert isinstance(write, WriteFile)
    assert write.content.startswith(text)
    assert b'address = "/run/x.sock"' in write.content
    assert not write.owned
    assert verbs(made) == []  # the running containerd has them still


def test_containerd_restarts_where_it_runs_on_something_else() -> None:
    text = b"version = 2\n"
    differs = Running("the snapshotter is not registered")
    made = plan(facts(file(CONTAINERD, text)), found(Kind.KEYS_LOST, CONTAINERD_CONFIG), running=differs)
    assert verbs(made) == ["restart containerd.service"]
    again = plan(facts(), found(Kind.CONTAINERD_OUTDATED, "containerd.service"), running=differs)
    assert verbs(again) == ["restart containerd.service"]
    assert plan(
        facts(), found(Kind.CONTAINERD_OUTDATED, "containerd.service")
    ).empty  # it was restarted meanwhile


def test_an_import_goes_back_beside_those_of_others() -> None:
    record = replace(CONTAINERD, keys={IMPORTS: ["/etc/ours/*.toml"]})
    seen = facts(file(record, b'version = 2\nimports = ["/etc/theirs.toml"]\n'))
    lost = found(Kind.IMPORT_LOST, CONTAINERD_CONFIG)
    made = plan(seen, lost, records=(record,))
    assert b'imports = ["/etc/theirs.toml", "/etc/ours/*.toml"]' in writes(made)[CONTAINERD_CONFIG].content


def test_a_file_that_cannot_be_edited_exactly_is_left_with_a_reason() -> None:
    made = plan(facts(file(CONTAINERD, b"proxy_plugins = 3\n")), found(Kind.KEYS_LOST, CONTAINERD_CONFIG))
    assert made.empty
    assert "cannot be mended" in made.warnings[0]


def test_a_file_that_is_there_again_is_taken_away() -> None:
    gone = replace(HOSTS, content=None)
    seen = facts(file(HOSTS, b"# Managed by nydus-agent\n"))
    made = plan(seen, found(Kind.FILE_MADE, HOSTS.path), records=(gone,))
    assert [getattr(step, "path", "") for step in made.steps] == [HOSTS.path]


# How often


def test_each_repair_of_the_same_thing_waits_longer_and_the_fifth_is_the_last() -> None:
    account: tuple[Repaired, ...] = ()
    now, waits = 0.0, []
    for _ in range(MOST_REPAIRS):
        account = limits.note_repairs(account, ["a"], now)
        wait = limits.repair_wait_s(account[0], now)
        waits.append(wait)
        now += wait or 0.0
    assert waits == [60.0, 240.0, 960.0, 3840.0, None]


def test_what_was_never_put_back_or_long_ago_may_be_at_once() -> None:
    assert limits.repair_wait_s(None, 0.0) == 0
    assert limits.repair_wait_s(Repaired("a", MOST_REPAIRS, 0.0), FORGET_REPAIRS_S) == 0
    assert limits.note_repairs([Repaired("a", MOST_REPAIRS, 0.0)], ["a"], FORGET_REPAIRS_S) == (
        Repaired("a", 1, FORGET_REPAIRS_S),
    )


def test_a_clock_that_was_stepped_back_shortens_no_wait() -> None:
    assert limits.repair_wait_s(Repaired("a", 1, 1000.0), 10.0) == 60.0


def test_giving_up_names_only_what_is_still_wrong() -> None:
    account = [Repaired("/etc/a", MOST_REPAIRS, 100.0), Repaired("/etc/b", MOST_REPAIRS, 100.0)]
    (told,) = limits.gave_up(account, ["/etc/a", "/etc/c"], 160.0)
    assert told.startswith("/etc/a was put back 5 times, last 1 min ago")
    assert limits.forget_repairs(account, ["/etc/a"]) == (account[1],)
