"""containerd is upgraded, or goes back, between two applies: each uses ours, and removal undoes all of
them.
"""

from __future__ import annotations

import pytest

from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.containerd.files import node_of
from agent.containerd.render import view_of
from agent.containerd.view import ContainerdView
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.steps import Former, WriteFile
from tests.fakes.node import FakeNode
from tests.unit.plan_node import CONTAINERD_CONFIG, GOLDEN, carry_out, look, node, plugins

OLD = (
    "debian-trixie",
    "kubeadm",
    "kind-v2",
    "eks-v2",
    "gke",
    "version-1",
    "version-only",
    "nvidia",
    "full-default",
)
DEFAULT, CLASS = ContainerdMode.DEFAULT, ContainerdMode.RUNTIME_CLASS


class _Upgraded:
    """A node whose containerd changes, and what was written on it, as the generations record it."""

    def __init__(self, case: str) -> None:
        self.made: FakeNode = node(containerd="1.7.24")
        self.made.files.drop(CONTAINERD_CONFIG)
        before = GOLDEN / "containerd" / case / "before"
        for path in (one for one in before.rglob("*") if one.is_file()):
            self.made.files.put(f"/etc/containerd/{path.relative_to(before)}", path.read_bytes())
        self.records: dict[str, WriteFile] = {}

    def apply(self, version: str, mode: ContainerdMode) -> ContainerdView:
        """What containerd makes of its files then."""
        told = f"containerd github.com/containerd/containerd {version}~ds1 x\n"
        self.made.processes.on("/usr/bin/containerd", "--version", stdout=told)
        self.made.load_plugins = lambda: plugins(self.made, version)
        config = Config(containerd=ContainerdConfig(mode=mode))
        steps = plan(config, look(self.made, config))
        carry_out(self.made, steps)
        for step in steps.steps:
            if isinstance(step, WriteFile):
                first = self.records.get(step.path, step)
                self.records[step.path] = WriteFile(
                    step.path, step.content, step.mode, step.reason, first.expect_sha256,
                    first.content_before,
                    first.mode_before, first.uid, first.gid, first.owned,
                )  # fmt: skip
        assert plan(config, look(self.made, config)).steps == ()
        seen = view_of(config, node_of(look(self.made, config)))
        assert seen is not None
        return seen

    def remove(self) -> None:
        config = Config()
        carry_out(self.made, removal(config, look(self.made, config), tuple(self.records.values()), Former()))


@pytest.mark.parametrize("case", OLD)
@pytest.mark.parametrize(
    "way",
    [
        (("1.7.24", DEFAULT), ("2.1.9", DEFAULT)),
        (("1.7.24", DEFAULT), ("2.4.2", CLASS)),
        (("1.7.24", CLASS), ("2.1.9", DEFAULT), ("2.4.2", DEFAULT)),
        (("2.1.9", DEFAULT), ("1.7.24", DEFAULT)),
        (("2.4.2", CLASS), ("1.7.24", CLASS), ("2.1.9", CLASS)),
    ],
    ids=lambda way: "-".join(f"{version}{mode.value[0]}" for version, mode in way),
)
def test_each_containerd_uses_ours_and_removal_leaves_no_trace(
    case: str, way: tuple[tuple[str, ContainerdMode], ...]
) -> None:
    upgraded = _Upgraded(case)
    before = upgraded.made.files.snapshot()
    for version, mode in way:
        seen = upgraded.apply(version, mode)
        assert seen.names_ours
        assert (seen.get(seen.keys.snapshotter) == "nydus") == (mode is DEFAULT)
    upgraded.remove()
    after = {path: what for path, what in upgraded.made.files.snapshot().items() if what is not None}
    assert after == {path: what for path, what in before.items() if what is not None}
