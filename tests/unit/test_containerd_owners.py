"""Files of containerd's that k0s or MicroK8s write: they are refused with the way, and no byte of them is
changed.

What the files look like: k0s' pkg/component/worker/containerd (component.go; configurer.go before and after
it went to containerd 2), MicroK8s' default-args/containerd-template.toml and
wrappers/run-containerd-with-args.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.containerd.render import Candidate, candidate
from agent.errors import PlanError
from agent.plan.diff import plan
from tests.fakes.units import unit
from tests.unit.containerd_cases import containerd
from tests.unit.plan_node import look, node, plugins, verbs

K0S = "/etc/k0s/containerd.toml"
K0S_HEAD = """\
# k0s_managed=true
# This is a placeholder configuration for k0s managed containerd.
# If you wish to override the config, remove the first line and replace this file with your custom \
configuration.
"""
K0S_2 = f"""\
{K0S_HEAD}imports = ["/etc/k0s/containerd.d/*.toml"]
version = 3

[plugins]

  [plugins."io.containerd.cri.v1.images"]

    [plugins."io.containerd.cri.v1.images".pinned_images]
      sandbox = "registry.k8s.io/pause:3.10.1"

  [plugins."io.containerd.cri.v1.runtime"]
"""
K0S_1 = f'{K0S_HEAD}version = 2\nimports = [\n\t"/run/k0s/containerd-cri.toml",\n]\n'
K0S_OLDEST = f"\n{K0S_1}"
"""The template of earlier releases began with an empty line."""
K0S_CRI = (
    'version = 2\n\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "registry.k8s.io/pause:3.9"\n'
)

MICROK8S = "/var/snap/microk8s/current/args/containerd.toml"
TEMPLATE = "/var/snap/microk8s/current/args/containerd-template.toml"
MICROK8S_TEMPLATE = """\
# Use config version 2 to enable new configuration fields.
version = 2
oom_score = 0

[grpc]
  uid = 0
  gid = 0

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  sandbox_image = "registry.k8s.io/pause:3.7"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${SNAPSHOTTER}"
    default_runtime_name = "${RUNTIME}"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${SNAP_DATA}/opt/cni/bin"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${SNAP_DATA}/args/certs.d"
"""
MICROK8S_RENDERED = (
    MICROK8S_TEMPLATE.replace("${SNAPSHOTTER}", "overlayfs")
    .replace("${RUNTIME}", "runc")
    .replace("${SNAP_DATA}", "/var/snap/microk8s/7394")
)


def become(version: str, root: str, files: Mapping[str, str]) -> Candidate:
    settings = Config(containerd=ContainerdConfig(config=root))
    return candidate(settings, containerd(version, {path: text.encode() for path, text in files.items()}))


@pytest.mark.parametrize(
    ("version", "files"),
    [
        ("2.1.9", {K0S: K0S_2}),
        ("2.4.3", {K0S: K0S_2, "/etc/k0s/containerd.d/gpu.toml": "version = 3\n"}),
        ("1.7.24", {K0S: K0S_1, "/run/k0s/containerd-cri.toml": K0S_CRI}),
        ("1.6.20", {K0S: K0S_OLDEST, "/run/k0s/containerd-cri.toml": K0S_CRI}),
        ("2.1.9", {}),
    ],
    ids=["containerd 2", "with a drop-in", "containerd 1.7", "containerd 1.6", "before its first start"],
)
def test_on_a_node_of_k0s_no_file_is_touched_and_the_keys_for_its_drop_in_are_named(
    version: str, files: Mapping[str, str]
) -> None:
    """k0s watches the directory and restarts containerd itself: neither its file nor a drop-in is made behind
    it.
    """
    made = become(version, K0S, files)
    assert not made.needs_restart
    assert [one.code for one in made.refusals] == ["NNA0318"]
    (refused,) = made.refusals
    assert K0S in refused.reason
    assert "# k0s_managed=true" in refused.reason or not files
    assert (
        'proxy_plugins.nydus.address = "/run/containerd-nydus/containerd-nydus-grpc.sock"' in refused.reason
    )
    assert "/etc/k0s/containerd.d" in refused.try_


@pytest.mark.parametrize(
    ("root", "text"),
    [
        (MICROK8S, MICROK8S_RENDERED),
        (TEMPLATE, MICROK8S_TEMPLATE),
        (MICROK8S.replace("current", "7394"), MICROK8S_RENDERED),
        (MICROK8S, "plugins = { }\n"),
    ],
    ids=["rendered", "template", "by its revision", "one that cannot be edited"],
)
def test_on_a_node_of_microk8s_neither_its_template_nor_what_it_renders_is_touched(
    root: str, text: str
) -> None:
    made = become("1.7.24", root, {root: text})
    assert not made.needs_restart
    assert [one.code for one in made.refusals] == ["NNA0318"]
    (refused,) = made.refusals
    assert "MicroK8s renders" in refused.reason
    assert root in refused.reason
    assert "containerd-template.toml" in refused.reason
    assert TEMPLATE in refused.try_


def test_the_plan_of_a_node_of_k0s_is_refused_as_a_whole() -> None:
    made = node(containerd="2.1.9")
    made.files.put(K0S, K0S_2.encode())
    with pytest.raises(PlanError) as refused:
        plan(settings := Config(containerd=ContainerdConfig(config=K0S)), look(made, settings))
    assert refused.value.code == "NNA0318"


def test_a_node_of_k0s_whose_operator_has_laid_the_drop_in_is_planned() -> None:
    """The way that the refusal names: with the keys there already, nothing of containerd's is changed or
    restarted.
    """
    made = node(containerd="2.1.9")
    named = Config(
        containerd=ContainerdConfig(config=K0S, unit="k0sworker.service", mode=ContainerdMode.PLUGIN_ONLY)
    )
    made.files.put(K0S, K0S_2.encode())
    by_hand = (
        'version = 3\n[proxy_plugins.nydus]\ntype = "snapshot"\n'
        'address = "/run/containerd-nydus/containerd-nydus-grpc.sock"\n'
        'exports.root = "/var/lib/containerd-nydus"\n'
        '[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
    )
    made.files.put("/etc/k0s/containerd.d/nydus.toml", by_hand.encode())
    made.units.units["k0sworker.service"] = unit("k0sworker.service", active=True, pid=7)
    made.load_plugins = lambda: plugins(made, "2.1.9", K0S)
    made.units.job("containerd.service", "restart", deadline_s=1)
    found = plan(named, look(made, named))
    assert not any("restart k0sworker" in verb for verb in verbs(found))
    assert not any(getattr(step, "path", "").startswith("/etc/k0s") for step in found.steps)


def test_a_node_of_k0s_that_was_changed_before_this_was_refused_can_be_applied_again() -> None:
    """What is there is as it shall be: nothing is changed, so nothing is refused."""
    drop_in = "/etc/k0s/containerd.d/zz-nydus-agent.toml"
    plain = become(
        "2.1.9",
        "/etc/own/containerd.toml",
        {"/etc/own/containerd.toml": K0S_2.replace(K0S_HEAD, "").replace("k0s", "own")},
    )
    (content,) = plain.files.values()
    made = become("2.1.9", K0S, {K0S: K0S_2, drop_in: content.decode()})
    assert (made.refusals, made.needs_restart) == ((), False)


def test_a_file_that_its_operator_has_taken_from_k0s_is_his_and_is_edited() -> None:
    """k0s leaves a file alone whose first line is not its marker (isK0sManagedConfig)."""
    made = become("1.7.24", K0S, {K0S: "version = 2\n"})
    assert made.refusals == ()
    assert K0S in made.files
