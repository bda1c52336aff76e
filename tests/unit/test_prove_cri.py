"""Check 6: what CRI itself says decides, for each containerd in its own words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.documents.status import CheckResult, CheckState
from tests.unit.proved_node import ROOT, ProvedNode

BUILT_IN = "/var/lib/containerd/io.containerd.snapshotter.v1.nydus"


def check_6(made: ProvedNode) -> CheckResult:
    return made.proof().checks[5]


def applied() -> ProvedNode:
    made = ProvedNode()
    made.apply()
    return made


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("1.6.20", CheckState.OK),
        ("1.7.15", CheckState.OK),
        ("1.6.32", CheckState.FAILED),
        ("1.7.24", CheckState.FAILED),
    ],
)
def test_a_containerd_that_reads_no_root_of_a_proxy_plugin_is_known_by_the_directory_that_it_names(
    version: str, state: CheckState
) -> None:
    made = applied()
    made.node.containerd.version_text = version
    made.node.containerd.mountpoints = (BUILT_IN,)
    check = check_6(made)
    assert check.state is state
    assert (f"does not tell the kubelet of {ROOT}" in check.detail) == (state is CheckState.OK)


def with_runtimes(**runtimes: object) -> ProvedNode:
    """A node of mode runtime-class that was applied, whose CRI then says that it has these runtimes."""
    config = Config()
    made = ProvedNode(
        replace(config, containerd=replace(config.containerd, mode=ContainerdMode.RUNTIME_CLASS))
    )
    made.apply()
    made.node.containerd.mountpoints = ("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs",)
    made.node.containerd.status["config"] = json.dumps({"containerd": {"runtimes": runtimes}})
    return made


def test_the_runtime_class_is_proved_by_the_snapshotter_that_cri_has_for_it() -> None:
    check = check_6(with_runtimes(runc={"snapshotter": ""}, nydus={"snapshotter": paths.PROXY_PLUGIN}))
    assert (check.state, "runtime-class" in check.detail) == (CheckState.OK, True)


def test_a_cri_that_does_not_tell_its_runtimes_proves_nothing_and_undoes_nothing() -> None:
    made = with_runtimes()
    made.node.containerd.status["config"] = "{}"
    assert check_6(made).state is CheckState.NOT_PROVED


@pytest.mark.parametrize(
    "runtimes", [{}, {"nydus": {"snapshotter": ""}}, {"nydus": {"snapshotter": "overlayfs"}}]
)
def test_a_runtime_class_that_would_start_on_another_snapshotter_is_told(runtimes: dict[str, object]) -> None:
    check = check_6(with_runtimes(**runtimes))
    assert (check.state, check.code) == (CheckState.FAILED, "NNA0653")
    assert "runtime" in check.cause
