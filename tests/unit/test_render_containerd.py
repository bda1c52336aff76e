"""containerd's configuration: ours goes in, everything else stays byte for byte."""

from __future__ import annotations

import difflib
import tomllib
from typing import Any

import pytest

from agent.config.model import Config, ContainerdConfig, ContainerdMode, SnapshotterConfig
from agent.containerd.render import Candidate, candidate
from agent.containerd.toml_edit import add_to_list, insert, take_from_list
from agent.containerd.view import KEYS, at
from tests.unit.containerd_cases import stock
from tests.unit.plan_node import CONTAINERD_CONFIG, GOLDEN, STOCK

CRI = ("plugins", "io.containerd.grpc.v1.cri")


def mode(which: ContainerdMode) -> Config:
    return Config(containerd=ContainerdConfig(mode=which))


def made(which: ContainerdMode, before: bytes | None) -> tuple[Candidate, bytes]:
    """The candidate, and the root file as it will be."""
    found = candidate(mode(which), stock(before))
    return found, found.files.get(CONTAINERD_CONFIG, before or b"")


def after(which: ContainerdMode, before: bytes | None) -> dict[str, Any]:
    return tomllib.loads(made(which, before)[1].decode())


def without(lines: list[str], wanted: list[str]) -> list[str]:
    """`wanted`'s lines that are not, in this order, among `lines`."""
    matcher = difflib.SequenceMatcher(None, wanted, lines, autojunk=False)
    kept = {block.a + i for block in matcher.get_matching_blocks() for i in range(block.size)}
    return [line for number, line in enumerate(wanted) if number not in kept and line.strip()]


def test_a_node_without_a_file_gets_one_that_says_whose_it_is() -> None:
    text = made(ContainerdMode.DEFAULT, None)[1].decode()
    assert text.startswith("# Managed by nydus-agent")
    assert tomllib.loads(text)["version"] == 2


def test_a_runtime_class_leaves_the_default_runtime_in_place() -> None:
    """A table of runtimes replaces the built-in one in containerd 1.x: pods of the default class would not
    start.
    """
    assert at(after(ContainerdMode.RUNTIME_CLASS, STOCK), KEYS[2].runtimes) == {
        "nydus": {"runtime_type": "io.containerd.runc.v2", "snapshotter": "nydus"},
        "runc": {"runtime_type": "io.containerd.runc.v2"},
    }


def test_a_runtime_class_has_the_kubelet_s_cgroup_driver() -> None:
    before = (GOLDEN / "containerd/kubeadm/before/config.toml").read_bytes()
    found = after(ContainerdMode.RUNTIME_CLASS, before)
    assert at(found, (*KEYS[2].runtimes, "nydus", "options")) == {"SystemdCgroup": True}
    assert at(found, KEYS[2].snapshotter) == "overlayfs"


def test_plugin_only_leaves_the_default_snapshotter_alone() -> None:
    found = after(ContainerdMode.PLUGIN_ONLY, STOCK)
    assert at(found, (*CRI, "containerd")) is None
    assert at(found, ("proxy_plugins", "nydus", "type")) == "snapshot"


@pytest.mark.parametrize("which", [ContainerdMode.PLUGIN_ONLY, ContainerdMode.RUNTIME_CLASS])
def test_another_mode_gives_containerd_its_own_default_snapshotter_back(which: ContainerdMode) -> None:
    applied = made(ContainerdMode.DEFAULT, STOCK)[1]
    found, content = made(which, applied)
    assert found.needs_restart
    assert at(tomllib.loads(content.decode()), KEYS[2].snapshotter) is None
    assert at(tomllib.loads(content.decode()), ("proxy_plugins", "nydus", "type")) == "snapshot"


def test_the_kubelet_is_told_the_snapshotter_s_own_root() -> None:
    wanted = Config(snapshotter=SnapshotterConfig(root="/data/nydus"))
    found = candidate(wanted, stock(STOCK))
    assert ("proxy_plugins.nydus.exports.root", "/data/nydus") in found.expect


def test_the_dump_must_show_every_key_of_ours() -> None:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    assert candidate(Config(), stock(STOCK)).expect == (
        ("proxy_plugins.nydus.type", "snapshot"),
        ("proxy_plugins.nydus.address", "/run/containerd-nydus/containerd-nydus-grpc.sock"),
        ("proxy_plugins.nydus.exports.root", "/var/lib/containerd-nydus"),
        (f"{cri}.containerd.disable_snapshot_annotations", "false"),
        (f"{cri}.containerd.discard_unpacked_layers", "false"),
        (f"{cri}.containerd.snapshotter", "nydus"),
        (f"{cri}.registry.config_path", "/etc/containerd/certs.d"),
    )


def test_a_registry_directory_of_the_operator_is_kept() -> None:
    before = (GOLDEN / "containerd/other-proxy-plugin/before/config.toml").read_bytes()
    found, content = made(ContainerdMode.DEFAULT, before)
    assert b'config_path = "/etc/cri/certs.d:/etc/docker/certs.d"' in content
    assert found.certs == "/etc/cri/certs.d"


def test_the_older_registry_form_is_left_alone_and_named() -> None:
    before = (GOLDEN / "containerd/old-mirrors/before/config.toml").read_bytes()
    found, content = made(ContainerdMode.DEFAULT, before)
    assert b"config_path" not in content
    assert not found.hosts_read
    assert "plain images do not go through the mirror" in found.warnings[0]


def test_images_whose_layers_were_discarded_are_announced() -> None:
    before = (GOLDEN / "containerd/kubeadm/before/config.toml").read_bytes()
    assert "must be pulled again" in made(ContainerdMode.DEFAULT, before)[0].warnings[0]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("version = 2\n[plugins\n", "NNA0311", "does not parse"),
        ("\xff", "NNA0311", "does not parse"),
        ("version = 3\n", "NNA0311", "version 3"),
        ("version = 4\n", "NNA0311", "version 4"),
        ('version = "2"\n', "NNA0311", "version 2"),
        ('version = 2\nproxy_plugins = "none"\n', "NNA0313", "cannot be edited"),
        ("version = 2\nplugins = { }\n", "NNA0313", "cannot be edited"),
    ],
)
def test_a_file_that_cannot_be_edited_safely_is_refused_untouched(text: str, code: str, says: str) -> None:
    found = candidate(Config(), stock(text.encode("latin-1")))
    assert [refusal.code for refusal in found.refusals] == [code]
    assert says in found.refusals[0].reason
    assert not found.needs_restart


def test_lines_of_others_are_never_reflowed() -> None:
    text = "version=2\n  odd   =   [ 1,2,\n 3 ] # why\n[ proxy_plugins ]\nz={a=1}\n"
    result = insert(text, {("proxy_plugins", "nydus", "type"): "snapshot"})
    assert without(result.splitlines(), text.splitlines()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 3 # why\n",
        'version = 3\n[plugins]\n  [plugins."x"]\n  a = 1\n',
        'imports = []\n[plugins."x"]\na = 1\n',
        'imports = ["/a/*.toml"] # theirs\n',
        'imports = [\n  "/a/*.toml", # theirs\n  "/b/*.toml"\n]\n[x]\n',
        "imports = ['/a/*.toml',\n '/b.toml',\n]",
    ],
)
def test_an_import_is_added_and_taken_out_without_a_trace(text: str) -> None:
    before = tomllib.loads(text)
    result = add_to_list(text, ("imports",), "/c/*.toml")
    assert tomllib.loads(result) == {**before, "imports": [*before.get("imports", []), "/c/*.toml"]}
    assert len(without(result.splitlines(), text.splitlines())) <= 1
    back = take_from_list(result, ("imports",), "/c/*.toml", before)
    assert tomllib.loads(back) == before
    assert len(without(back.splitlines(), text.splitlines())) <= 1
