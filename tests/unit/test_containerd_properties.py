"""Whatever others wrote into containerd's files: ours is in force or refused, and nothing of theirs is
touched.
"""

from __future__ import annotations

import tomllib

import pytest

from agent.containerd.dropin import NAME, expectations
from agent.containerd.render import candidate, view_of
from agent.errors import PlanError
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.steps import Former
from tests.unit.containerd_cases import containerd
from tests.unit.containerd_worlds import VERSIONS, world
from tests.unit.plan_node import carry_out, look, writes
from tests.unit.test_render_containerd import without

ROOT = "/etc/containerd/config.toml"
WORLDS = 60


@pytest.mark.parametrize("version", VERSIONS)
def test_ours_is_in_force_or_refused_and_nothing_else_is_touched(version: str) -> None:
    for one in (world(f"{version}/{number}") for number in range(WORLDS)):
        made = candidate(one.wanted, containerd(version, one.files))
        if made.refusals:
            assert not made.needs_restart, one.told()
            continue
        assert {path for path in made.files if path in one.files} <= {one.config}, one.told()
        kept, text = (
            files.get(one.config, b"").decode().splitlines()
            for files in (one.files, {**one.files, **made.files})
        )
        changed = len(made.wishes) if version < "2" else 1  # the line with the imports
        assert len(without(text, kept)) <= changed, one.told()
        node = containerd(version, {**one.files, **made.files})
        seen = view_of(one.wanted, node)
        assert seen is not None
        assert all(seen.get(path) == value for path, value in made.wishes.items()), one.told()
        assert not candidate(one.wanted, node).needs_restart, one.told()
        drop_ins = [content for path, content in made.files.items() if path.endswith(NAME)]
        for content in drop_ins if version >= "2" else []:
            # 2.3.0 to 2.3.4 refuse a version above the root's.
            own = tomllib.loads(one.files[one.config].decode())
            assert tomllib.loads(content.decode()).get("version") == own.get("version"), one.told()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_removal_gives_every_file_back_byte_for_byte(version: str) -> None:
    for one in (world(f"{version}/{number}") for number in range(WORLDS)):
        made = one.node()
        before = made.files.snapshot()
        try:
            found = plan(one.wanted, look(made, one.wanted))
        except PlanError:
            continue
        carry_out(made, found)
        assert plan(one.wanted, look(made, one.wanted)).empty, one.told()
        carry_out(made, removal(one.wanted, look(made, one.wanted), tuple(writes(found).values()), Former()))
        after = {path: what for path, what in made.files.snapshot().items() if what is not None}
        assert after == {path: what for path, what in before.items() if what is not None}, one.told()


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
