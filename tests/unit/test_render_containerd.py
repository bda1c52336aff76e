"""containerd's configuration: ours goes in, everything else stays byte for byte."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from agent.config.model import Config, ContainerdConfig, ContainerdMode, SnapshotterConfig
from agent.plan.containerd_keys import KEYS, at, certs_directory
from agent.plan.render_containerd import candidate
from agent.plan.toml_edit import insert, remove
from tests.unit.plan_node import GOLDEN, STOCK

CASES = sorted((GOLDEN / "containerd").iterdir())
CRI = ("plugins", "io.containerd.grpc.v1.cri")


def mode(which: ContainerdMode) -> Config:
    return Config(containerd=ContainerdConfig(mode=which))


def without(lines: list[str], wanted: list[str]) -> list[str]:
    """`wanted`'s lines that are not, in this order, among `lines`."""
    matcher = difflib.SequenceMatcher(None, wanted, lines, autojunk=False)
    kept = {block.a + i for block in matcher.get_matching_blocks() for i in range(block.size)}
    return [line for number, line in enumerate(wanted) if number not in kept and line.strip()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_edited_file_is_the_golden_one(case: Path) -> None:
    found = candidate(Config(), (case / "before.toml").read_bytes())
    assert found.refusals == ()
    assert found.content.decode() == (case / "after.toml").read_text()


@pytest.mark.parametrize("which", list(ContainerdMode))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_edit_changes_nothing(case: Path, which: ContainerdMode) -> None:
    once = candidate(mode(which), (case / "before.toml").read_bytes())
    twice = candidate(mode(which), once.content)
    assert once.needs_restart
    assert (twice.content, twice.needs_restart) == (once.content, False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_lines_of_keys_that_are_ours_differ(case: Path) -> None:
    before = (case / "before.toml").read_text().splitlines()
    after = (case / "after.toml").read_text().splitlines()
    ours = ("snapshotter =", "disable_snapshot_annotations =", "discard_unpacked_layers =", "config_path =")
    assert all(line.strip().startswith(ours) for line in without(after, before))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_the_operator_set_still_means_the_same(case: Path) -> None:
    before = tomllib.loads((case / "before.toml").read_text())
    found = candidate(Config(), (case / "before.toml").read_bytes())
    after = tomllib.loads(found.content.decode())
    for path in found.wishes:
        _drop(after, path)
        _drop(before, path)
    assert _without_empty(after) == _without_empty(before)


def _drop(document: dict[str, Any], path: tuple[str, ...]) -> None:
    table = at(document, path[:-1])
    if table is not None:
        table.pop(path[-1], None)


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    cleaned = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in cleaned.items() if inner != {}}


def test_a_node_without_a_file_gets_one_that_says_whose_it_is() -> None:
    found = candidate(Config(), None)
    text = found.content.decode()
    assert text.startswith("# Managed by nydus-agent")
    assert tomllib.loads(text)["version"] == 2


def test_a_runtime_class_leaves_the_default_runtime_in_place() -> None:
    """A table of runtimes replaces the built-in one in containerd: pods of the default class would not start."""
    found = candidate(mode(ContainerdMode.RUNTIME_CLASS), STOCK)
    runtimes = at(tomllib.loads(found.content.decode()), KEYS[2].runtimes)
    assert runtimes == {
        "nydus": {"runtime_type": "io.containerd.runc.v2", "snapshotter": "nydus"},
        "runc": {"runtime_type": "io.containerd.runc.v2"},
    }


def test_a_runtime_class_has_the_kubelet_s_cgroup_driver() -> None:
    before = (GOLDEN / "containerd/kubeadm/before.toml").read_bytes()
    after = tomllib.loads(candidate(mode(ContainerdMode.RUNTIME_CLASS), before).content.decode())
    assert at(after, (*KEYS[2].runtimes, "nydus", "options")) == {"SystemdCgroup": True}
    assert at(after, KEYS[2].snapshotter) == "overlayfs"


def test_plugin_only_leaves_the_default_snapshotter_alone() -> None:
    after = tomllib.loads(candidate(mode(ContainerdMode.PLUGIN_ONLY), STOCK).content.decode())
    assert at(after, (*CRI, "containerd")) is None
    assert at(after, ("proxy_plugins", "nydus", "type")) == "snapshot"


@pytest.mark.parametrize("which", [ContainerdMode.PLUGIN_ONLY, ContainerdMode.RUNTIME_CLASS])
def test_another_mode_gives_containerd_its_own_default_snapshotter_back(which: ContainerdMode) -> None:
    applied = candidate(Config(), STOCK).content
    found = candidate(mode(which), applied)
    after = tomllib.loads(found.content.decode())
    assert found.needs_restart
    assert at(after, KEYS[2].snapshotter) is None
    assert at(after, ("proxy_plugins", "nydus", "type")) == "snapshot"


def test_the_kubelet_is_told_the_snapshotter_s_own_root() -> None:
    wanted = Config(snapshotter=SnapshotterConfig(root="/data/nydus"))
    found = candidate(wanted, STOCK)
    assert ("proxy_plugins.nydus.exports.root", "/data/nydus") in found.expect


def test_the_dump_must_show_every_key_of_ours() -> None:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    assert candidate(Config(), STOCK).expect == (
        ("proxy_plugins.nydus.type", "snapshot"),
        ("proxy_plugins.nydus.address", "/run/containerd-nydus/containerd-nydus-grpc.sock"),
        ("proxy_plugins.nydus.exports.root", "/var/lib/containerd-nydus"),
        (f"{cri}.containerd.disable_snapshot_annotations", "false"),
        (f"{cri}.containerd.discard_unpacked_layers", "false"),
        (f"{cri}.containerd.snapshotter", "nydus"),
        (f"{cri}.registry.config_path", "/etc/containerd/certs.d"),
    )


def test_a_registry_directory_of_the_operator_is_kept() -> None:
    before = (GOLDEN / "containerd/other-proxy-plugin/before.toml").read_bytes()
    found = candidate(Config(), before)
    assert b'config_path = "/etc/cri/certs.d:/etc/docker/certs.d"' in found.content
    assert certs_directory(before) == "/etc/cri/certs.d"


def test_the_older_registry_form_is_left_alone_and_named() -> None:
    before = (GOLDEN / "containerd/old-mirrors/before.toml").read_bytes()
    found = candidate(Config(), before)
    assert b"config_path" not in found.content
    assert not found.hosts_read
    assert "plain images do not go through the mirror" in found.warnings[0]


def test_images_whose_layers_were_discarded_are_announced() -> None:
    before = (GOLDEN / "containerd/kubeadm/before.toml").read_bytes()
    assert "must be pulled again" in candidate(Config(), before).warnings[0]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("version = 2\n[plugins\n", "NNA0311", "does not parse"),
        ("\xff", "NNA0311", "does not parse"),
        ("version = 3\n", "NNA0312", "version 3"),
        ("version = 4\n", "NNA0312", "version 4"),
        ("version = 1\n", "NNA0312", "version 1"),
        ("[plugins.cri]\n", "NNA0312", "no version"),
        ("", "NNA0312", "no version"),
        ('version = 2\nproxy_plugins = "none"\n', "NNA0313", "cannot be edited"),
        ("version = 2\nplugins = { }\n", "NNA0313", "cannot be edited"),
    ],
)
def test_a_file_that_cannot_be_edited_safely_is_refused_untouched(text: str, code: str, says: str) -> None:
    before = text.encode("latin-1")
    found = candidate(Config(), before)
    assert [refusal.code for refusal in found.refusals] == [code]
    assert says in found.refusals[0].reason
    assert found.content == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_taking_ours_out_again_gives_the_operator_s_file_back(case: Path) -> None:
    before = (case / "before.toml").read_text()
    document = tomllib.loads(before)
    found = candidate(Config(), before.encode())
    undone = remove(found.content.decode(), {path: at(document, path) for path in found.wishes}, document)
    assert without(undone.splitlines(), before.splitlines()) == []
    assert _without_empty(tomllib.loads(undone)) == _without_empty(document)


NAMES = st.sampled_from(["cni", "containerd", "registry", "x509_key", "streaming", "image decryption"])
VALUES = st.one_of(
    st.booleans(), st.integers(-5, 5), st.text("ab\\\"' #=[]\t", max_size=6), st.lists(st.integers(), max_size=3)
)
TABLES = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(VALUES, inner), max_size=3),
    max_leaves=8,
)
COMMENTS = st.lists(st.sampled_from(["# kept", "", "#[proxy_plugins.nydus]", '# snapshotter = "x"']), max_size=4)


@given(cri=TABLES, others=TABLES, comments=COMMENTS)
def test_any_file_is_either_edited_exactly_or_refused(
    cri: dict[str, Any], others: dict[str, Any], comments: list[str]
) -> None:
    document = {"version": 2, "plugins": {"io.containerd.grpc.v1.cri": cri, "other": others}}
    text = "".join(f"{comment}\n" for comment in comments) + tomlkit.dumps(document)
    found = candidate(Config(), text.encode())
    if found.refusals:
        assert found.content == text.encode()
        return
    after = tomllib.loads(found.content.decode())
    assert all(at(after, path) == value for path, value in found.wishes.items())
    changed = sum(at(document, path) is not None for path in found.wishes)
    assert len(without(found.content.decode().splitlines(), text.splitlines())) <= changed
    assert candidate(Config(), found.content).content == found.content


def test_lines_of_others_are_never_reflowed() -> None:
    text = "version=2\n  odd   =   [ 1,2,\n 3 ] # why\n[ proxy_plugins ]\nz={a=1}\n"
    after = insert(text, {("proxy_plugins", "nydus", "type"): "snapshot"})
    assert without(after.splitlines(), text.splitlines()) == []
