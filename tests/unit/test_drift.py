"""What counts as drift, kind by kind: what is told, and whether a repair may mend it."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace

import pytest

from agent import paths
from agent.documents.drift import (
    Finding,
    Kind,
    Remedy,
)
from agent.facts.node import FileFact
from agent.plan.repair import IMPORTS, VERSION, FileDrift, Recorded, compare, keys_after
from agent.plan.unit_files import contradictions, unit_of
from agent.steps import RemoveFile, WriteFile

MARKED = f"# {paths.MARK}\n".encode()
APPLIED = Recorded("/etc/nydus/snapshotter.toml", MARKED, 0o644, 0, 0, whole=True)
CONFIG = "/etc/containerd/config.toml"


def file(path: str, content: bytes) -> FileFact:
    return FileFact(path, content, hashlib.sha256(content).hexdigest(), 0o644, 0, 0)


AS_APPLIED = file(APPLIED.path, MARKED)
EDITED = file(APPLIED.path, MARKED + b"edited")
THEIRS = file(APPLIED.path, b"theirs")


def one(found: FileDrift | None) -> Finding:
    assert found is not None
    (finding,) = found.findings
    return finding


def test_a_file_as_it_was_applied_is_no_drift() -> None:
    assert compare(APPLIED, AS_APPLIED) is None
    assert compare(replace(APPLIED, content=None), None) is None


@pytest.mark.parametrize(
    ("seen", "kind", "remedy"),
    [
        (None, Kind.FILE_REMOVED, Remedy.REPAIR),
        (EDITED, Kind.FILE_EDITED, Remedy.REPAIR),
        (THEIRS, Kind.FILE_TAKEN_OVER, Remedy.HAND),
        (replace(THEIRS, content=b""), Kind.FILE_EDITED, Remedy.REPAIR),
        (replace(AS_APPLIED, symlink_target="/srv/x"), Kind.FILE_TAKEN_OVER, Remedy.HAND),
        (replace(AS_APPLIED, mode=0o600), Kind.FILE_RIGHTS, Remedy.REPAIR),
        (replace(AS_APPLIED, uid=1000), Kind.FILE_RIGHTS, Remedy.REPAIR),
        (replace(THEIRS, mode=0o600), Kind.FILE_TAKEN_OVER, Remedy.HAND),
    ],
)
def test_a_file_of_ours_that_others_changed(seen: FileFact | None, kind: Kind, remedy: Remedy) -> None:
    difference = compare(APPLIED, seen)
    found = one(difference)
    assert (found.kind, found.subject, found.remedy) == (kind, APPLIED.path, remedy)
    assert APPLIED.path in found.what
    assert found.try_
    assert difference is not None
    step = difference.step
    if remedy is Remedy.HAND:
        assert step is None
    else:
        assert isinstance(step, WriteFile)
        assert (step.content, step.mode, step.uid) == (MARKED, 0o644, 0)
        assert step.expect_sha256 == (seen.sha256 if seen is not None else "")


def test_a_file_that_was_edited_and_opened_is_both_and_one_step_mends_it() -> None:
    difference = compare(APPLIED, replace(EDITED, mode=0o666))
    assert difference is not None
    assert [found.kind for found in difference.findings] == [Kind.FILE_EDITED, Kind.FILE_RIGHTS]
    assert isinstance(difference.step, WriteFile)


def test_a_file_that_was_taken_away_is_drift_only_where_it_is_ours_again() -> None:
    gone = replace(APPLIED, content=None)
    difference = compare(gone, AS_APPLIED)
    assert one(difference).kind is Kind.FILE_MADE
    assert difference is not None
    assert isinstance(difference.step, RemoveFile)
    assert compare(gone, THEIRS) is None


def test_a_template_has_no_mark_that_could_be_gone() -> None:
    template = replace(APPLIED, content=b"{}")
    assert one(compare(template, THEIRS)).remedy is Remedy.REPAIR


BEFORE = tomllib.loads('version = 2\nimports = ["/etc/x.toml"]\n[plugins.cri]\nsandbox = "pause"\n')
AFTER = tomllib.loads(
    'version = 2\nimports = ["/etc/x.toml", "/etc/ours/*.toml"]\n[plugins.cri]\nsandbox = "pause"\n'
    'snapshotter = "nydus"\n[proxy_plugins.nydus]\ntype = "snapshot"\n'
)
OURS = keys_after({}, BEFORE, AFTER)
SHARED = Recorded(CONFIG, b"", 0o644, 0, 0, whole=False, keys=OURS)


def keys(text: str) -> FileDrift | None:
    return compare(SHARED, file(CONFIG, text.encode()))


def test_our_keys_are_what_our_change_has_made_of_the_file_and_nothing_of_others() -> None:
    assert OURS == {
        ("plugins", "cri", "snapshotter"): "nydus",
        ("proxy_plugins", "nydus", "type"): "snapshot",
        IMPORTS: ["/etc/ours/*.toml"],
        VERSION: 2,
    }
    edited = {**AFTER, "root": "/srv"}
    assert keys_after(OURS, edited, {**edited, "debug": True}) == {**OURS, ("debug",): True}
    assert IMPORTS not in keys_after(
        OURS, AFTER, {key: value for key, value in AFTER.items() if key != "imports"}
    )


def test_what_others_write_beside_our_keys_is_no_drift() -> None:
    text = (
        'root = "/srv"\nversion = 2\nimports = ["/a", "/etc/ours/*.toml"]\n[plugins.cri]\n'
        'snapshotter = "nydus"\n[proxy_plugins.nydus]\ntype = "snapshot"\n'
    )
    assert keys(text) is None


@pytest.mark.parametrize(
    ("text", "kind", "remedy"),
    [
        ("version = 2\n", Kind.KEYS_LOST, Remedy.REPAIR),
        ("this is no TOML", Kind.KEYS_LOST, Remedy.REPAIR),
        ("version = 3\n", Kind.KEYS_CONTRADICTED, Remedy.HAND),  # our keys would mean nothing in it
        ('version = 2\n[plugins.cri]\nsnapshotter = "overlayfs"\n', Kind.KEYS_CONTRADICTED, Remedy.HAND),
        (
            'version = 2\n[plugins.cri]\nsnapshotter = "nydus"\n[proxy_plugins.nydus]\ntype = "snapshot"\n',
            Kind.IMPORT_LOST,
            Remedy.REPAIR,
        ),
    ],
)
def test_a_file_of_others_in_which_our_keys_do_not_hold(text: str, kind: Kind, remedy: Remedy) -> None:
    found = one(keys(text))
    assert (found.kind, found.subject, found.remedy) == (kind, CONFIG, remedy)


def test_a_file_of_others_that_is_gone_is_not_made_by_a_repair() -> None:
    difference = compare(SHARED, None)
    found = one(difference)
    assert (found.kind, found.remedy) == (Kind.KEYS_LOST, Remedy.APPLY)
    assert difference is not None
    assert difference.step is None


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[Service]\nKillMode=control-group\n", ["KillMode"]),
        ("[Service]\nExecStart=\nExecStart=/opt/grpc \\\n  --x\n", ["ExecStart"]),
        ('[Service]\nEnvironment="NO_PROXY=10.0.0.0/8"\n', ["Environment"]),
        ("[Service]\nEnvironment=NO_PROXY=localhost,127.0.0.1 HTTP_PROXY=http://p:1\n", []),
        ("[Service]\nEnvironment=\n", ["Environment"]),
        ("[Service]\nUnsetEnvironment=NO_PROXY\n", ["UnsetEnvironment"]),
        ("[Unit]\nStartLimitIntervalSec=10\n[Service]\nRestart=no\n", ["StartLimitIntervalSec", "Restart"]),
        ("[Service]\n# KillMode=none\nKillMode=process\nMemoryMax=1G\nRestart=on-failure\n", []),
        ("[Install]\nKillMode=none\n", []),
    ],
)
def test_a_drop_in_is_drift_only_where_it_breaks_something(text: str, keys: list[str]) -> None:
    assert [found.key for found in contradictions(paths.SNAPSHOTTER_UNIT, text, CONFIG)] == keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[Service]\nExecStart=/usr/bin/containerd --config /etc/other.toml\n", ["ExecStart"]),
        ("[Service]\nExecStart=/usr/bin/containerd --config=/etc/other.toml\n", ["ExecStart"]),
        (f"[Service]\nExecStart=/usr/bin/containerd -c {CONFIG}\n", []),
        ("[Service]\nExecStart=/usr/bin/containerd\nKillMode=mixed\n", ["KillMode"]),
        ("[Service]\nEnvironment=NO_PROXY=x\n", []),
    ],
)
def test_a_drop_in_for_containerd_itself(text: str, keys: list[str]) -> None:
    assert [found.key for found in contradictions(paths.CONTAINERD_UNIT, text, CONFIG)] == keys


def test_a_cluster_that_brings_its_own_containerd_has_a_config_option_of_its_own() -> None:
    text = "[Service]\nExecStart=/usr/local/bin/k3s agent --config /etc/k3s.yaml\nKillMode=mixed\n"
    assert [found.key for found in contradictions("k3s-agent.service", text, CONFIG)] == ["KillMode"]


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/etc/systemd/system/nydus-snapshotter.service.d/a.conf", paths.SNAPSHOTTER_UNIT),
        ("/run/systemd/system/containerd.service.d/a.conf", paths.CONTAINERD_UNIT),
        ("/etc/systemd/system/containerd.service", paths.CONTAINERD_UNIT),
        ("/etc/systemd/system/k3s.service.d/a.conf", "k3s.service"),
        ("/etc/systemd/system/nydus-snapshotter.service.d/a.conf~", ""),
        (paths.SNAPSHOTTER_UNIT_FILE, ""),  # ours
        ("/etc/systemd/system/other.service", ""),
    ],
)
def test_whose_unit_a_file_is_about(path: str, unit: str) -> None:
    assert unit_of(path) == unit
