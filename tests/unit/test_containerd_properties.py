"""Whatever others wrote into containerd's files: ours is in force or refused, and nothing of theirs is
touched.
"""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.containerd.dropin import NAME, expectations
from agent.containerd.render import candidate, view_of
from tests.unit.containerd_cases import containerd
from tests.unit.containerd_worlds import FILES, VERSIONS, laid

PLACE = "/etc/containerd"
ROOT = f"{PLACE}/config.toml"


@pytest.mark.parametrize("version", VERSIONS)
@given(files=FILES, globbed=st.booleans(), mode=st.sampled_from(ContainerdMode))
def test_ours_is_in_force_or_refused_and_nothing_else_is_touched(
    version: str, files: list[bytes], globbed: bool, mode: ContainerdMode
) -> None:
    before = laid(files, PLACE, globbed=globbed)
    settings = Config(containerd=ContainerdConfig(mode=mode))
    made = candidate(settings, containerd(version, before))
    if made.refusals:
        assert not made.needs_restart
        return
    assert {path for path in made.files if path in before} <= {ROOT}
    node = containerd(version, {**before, **made.files})
    seen = view_of(settings, node)
    assert seen is not None
    assert all(seen.get(path) == value for path, value in made.wishes.items())
    assert not candidate(settings, node).needs_restart
    drop_ins = [content for path, content in made.files.items() if path.endswith(NAME)]
    for content in drop_ins if version >= "2" else []:
        # 2.3.0 to 2.3.4 refuse a version above the root's.
        assert tomllib.loads(content.decode()).get("version") == tomllib.loads(files[0].decode()).get(
            "version"
        )


@pytest.mark.parametrize(
    ("version", "root", "asked"),
    [
        ((1, 6, 20), 2, {"type", "snapshotter"}),
        ((1, 6, 32), 2, {"type", "root", "snapshotter"}),
        ((1, 7, 15), 2, {"type", "snapshotter"}),
        ((1, 7, 16), 2, {"type", "root", "snapshotter"}),
        ((2, 0, 4), 2, {"type", "root"}),
        ((2, 0, 4), 3, {"type", "root", "snapshotter"}),
        ((2, 0, 5), 2, {"type", "root", "snapshotter"}),
        ((2, 1, 0), 2, {"type", "root"}),
    ],
)
def test_a_dump_is_asked_only_for_what_this_containerd_shows(
    version: tuple[int, ...], root: int, asked: set[str]
) -> None:
    node = containerd("2.1.9", {ROOT: f"version = {root}\n".encode()})
    wishes = {
        ("proxy_plugins", "nydus", "type"): "snapshot",
        ("proxy_plugins", "nydus", "exports", "root"): "/x",
        ("plugins", "cri", "snapshotter"): "nydus",
    }
    found = expectations(wishes, version, node.load(ROOT)[0])
    assert {path.rpartition(".")[2] for path, _value in found} == asked
