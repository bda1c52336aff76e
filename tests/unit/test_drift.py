"""What counts as drift, kind by kind: what is told, and whether a repair may mend it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent import paths
from agent.plan.drift import (
    IMPORTS,
    VERSION,
    Expected,
    ExpectedFile,
    ExpectedProgram,
    Finding,
    Kind,
    Remedy,
    Seen,
    expected_keys,
    file_findings,
    key_findings,
    keys_after,
    link_findings,
)
from agent.plan.drift_form import decode_expected, decode_findings, encode_expected, encode_findings
from agent.plan.unit_files import contradictions, unit_of

APPLIED = ExpectedFile("/etc/nydus/snapshotter.toml", "aa")
AS_APPLIED = Seen("aa", 0o644, 0, 0, marked=True)
CONFIG = "/etc/containerd/config.toml"


def one(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_a_file_as_it_was_applied_is_no_drift() -> None:
    assert list(file_findings(APPLIED, AS_APPLIED)) == []
    assert list(file_findings(replace(APPLIED, sha256=""), None)) == []


@pytest.mark.parametrize(
    ("seen", "kind", "remedy"),
    [
        (None, Kind.FILE_REMOVED, Remedy.REPAIR),
        (replace(AS_APPLIED, sha256="bb"), Kind.FILE_EDITED, Remedy.REPAIR),
        (replace(AS_APPLIED, sha256="bb", marked=False), Kind.FILE_TAKEN_OVER, Remedy.HAND),
        (replace(AS_APPLIED, sha256="bb", marked=False, empty=True), Kind.FILE_EDITED, Remedy.REPAIR),
        (replace(AS_APPLIED, link="/srv/x"), Kind.FILE_TAKEN_OVER, Remedy.HAND),
        (replace(AS_APPLIED, mode=0o600), Kind.FILE_RIGHTS, Remedy.REPAIR),
        (replace(AS_APPLIED, uid=1000), Kind.FILE_RIGHTS, Remedy.REPAIR),
    ],
)
def test_a_file_of_ours_that_others_changed(seen: Seen | None, kind: Kind, remedy: Remedy) -> None:
    found = one(file_findings(APPLIED, seen))
    assert (found.kind, found.subject, found.remedy) == (kind, APPLIED.path, remedy)
    assert APPLIED.path in found.what
    assert found.try_


def test_a_file_that_was_taken_away_is_drift_only_where_it_is_ours_again() -> None:
    gone = replace(APPLIED, sha256="")
    assert one(file_findings(gone, AS_APPLIED)).kind is Kind.FILE_MADE
    assert list(file_findings(gone, replace(AS_APPLIED, marked=False))) == []


def test_a_template_has_no_mark_that_could_be_gone() -> None:
    template = replace(APPLIED, marked=False)
    assert (
        one(file_findings(template, replace(AS_APPLIED, sha256="bb", marked=False))).remedy is Remedy.REPAIR
    )


def test_a_link_to_nowhere_in_the_place_of_the_unit_means_that_it_is_masked() -> None:
    unit = replace(APPLIED, path=paths.SNAPSHOTTER_UNIT_FILE)
    found = one(file_findings(unit, replace(AS_APPLIED, link="/dev/null", marked=False)))
    assert (found.kind, found.subject, found.remedy) == (
        Kind.UNIT_MASKED,
        paths.SNAPSHOTTER_UNIT,
        Remedy.HAND,
    )
    assert found.try_ == f"sudo systemctl unmask {paths.SNAPSHOTTER_UNIT}"


BEFORE = tomllib.loads('version = 2\nimports = ["/etc/x.toml"]\n[plugins.cri]\nsandbox = "pause"\n')
AFTER = tomllib.loads(
    'version = 2\nimports = ["/etc/x.toml", "/etc/ours/*.toml"]\n[plugins.cri]\nsandbox = "pause"\n'
    'snapshotter = "nydus"\n[proxy_plugins.nydus]\ntype = "snapshot"\n'
)
OURS = keys_after({}, BEFORE, AFTER)
KEYS = tuple(expected_keys(CONFIG, OURS))


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
    assert (
        list(key_findings(CONFIG, KEYS, {**AFTER, "root": "/srv", "imports": ["/a", "/etc/ours/*.toml"]}))
        == []
    )


@pytest.mark.parametrize(
    ("text", "kind", "remedy"),
    [
        ("version = 2\n", Kind.KEYS_LOST, Remedy.REPAIR),
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
    found = one(key_findings(CONFIG, KEYS, tomllib.loads(text), OURS))
    assert (found.kind, found.subject, found.remedy) == (kind, CONFIG, remedy)


def test_a_contradiction_names_the_file_the_key_and_both_values() -> None:
    document = {**AFTER, "plugins": {"cri": {"snapshotter": "overlayfs"}}}
    found = one(key_findings(CONFIG, KEYS, document, OURS))
    assert CONFIG in found.what
    assert found.evidence == ('plugins.cri.snapshotter = "overlayfs", applied was "nydus"',)
    assert one(key_findings(CONFIG, KEYS, document)).evidence == ()  # who has digests only tells no values


def test_a_file_of_others_that_is_gone_is_not_made_by_a_repair() -> None:
    found = one(key_findings(CONFIG, KEYS, None))
    assert (found.kind, found.remedy) == (Kind.KEYS_LOST, Remedy.APPLY)


def test_a_unit_that_does_not_start_at_boot_any_more_is_told() -> None:
    link = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
    assert one(link_findings(link, there=False)).subject == paths.SNAPSHOTTER_UNIT
    assert list(link_findings(link, there=True)) == []


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


def test_what_is_published_comes_back_as_it_was() -> None:
    program = ExpectedProgram("nydusd", "/usr/bin/nydusd", "2.2.0", "1 2 3", "cc")
    expected = Expected(7, (APPLIED,), KEYS, ("/etc/a",), (("/etc/b", "bb"),), (program,))
    assert decode_expected(encode_expected(expected)) == expected
    finding = Finding(Kind.UNIT_DOWN, "a", "a is down", Remedy.REPAIR, "try this", ("seen",))
    assert decode_findings(encode_findings([finding])) == (finding,)


@pytest.mark.parametrize("document", [None, {}, {"generation": "x"}, {"generation": 1, "files": [3]}])
def test_a_document_that_makes_no_sense_says_nothing(document: dict[str, object] | None) -> None:
    assert decode_expected(document) is None
    assert decode_findings(document) == ()
    assert decode_findings([1, {"kind": "of tomorrow"}]) == ()
