"""The image that every pod starts with, where its layers were thrown away before the snapshotter changed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.node import images, parts, scene
from tests.node.boot import Node, NodeError
from tests.node.change import CONTAINERD_CONFIG, NO_CHANGE, tree

PAUSE = "127.0.0.1:5001/pause:1"
_CTR = ("ctr", "--namespace=k8s.io")


@pytest.fixture
def node() -> Iterator[Node]:
    """A node whose sandbox image is from a registry that is away, unpacked on overlayfs and without its
    layer.
    """
    with scene.staged("reader-nydus", installed=False) as stage:
        made = stage.node
        cri = '[plugins."io.containerd.grpc.v1.cri"]\n'
        config = made.read(CONTAINERD_CONFIG)
        made.write(CONTAINERD_CONFIG, config.replace(cri, f'{cri}    sandbox_image = "{PAUSE}"\n'))
        made.run(["systemctl", "restart", "containerd"])
        made.run([*_CTR, "images", "tag", images.PAUSE_REF, PAUSE])
        discard_layer(made)
        scene.install_only(made, NO_CHANGE)
        yield made


def discard_layer(node: Node) -> None:
    """What `discard_unpacked_layers` does."""
    (layer,) = pause().layers
    node.run([*_CTR, "content", "rm", layer[0]])


def pause() -> images.Image:
    return images.read_image(images.made() / "pause", images.PAUSE_REF)


def plain_pod(node: Node) -> None:
    """A pod of an image that has all it needs: only its sandbox can fail."""
    assert scene.pod(node, images.PAUSE_REF, ["/reader", "make", "/", "1", "100"], name="plain") == ""


# On a machine with much other work the agent sees a change in its middle.
@pytest.mark.allow_warnings(r"^nydus-agent.service: ChangedSinceProof: ")
def test_a_change_that_would_leave_the_node_without_pods_is_undone_and_works_once_the_image_can_be_had(
    node: Node,
) -> None:
    plain_pod(node)
    before = tree(node)
    told = scene.agent(node, "plan").stdout
    assert f"unpack {PAUSE} by pulling it again" in told

    failed = scene.agent_json(node, "apply")
    assert failed["code"] == "NNA0402"
    assert "NNA0419" in failed["cause"]
    assert tree(node) == before
    plain_pod(node)

    parts.start_registry(node, port=5001)
    images.push_image(node, images.made() / "pause", pause(), PAUSE)
    done = scene.agent_json(node, "apply")
    assert any("unpack" in step["what"] for step in done["steps"])
    assert node.run([*_CTR, "snapshots", "--snapshotter", "nydus", "ls"]).stdout.count("Committed") == 1
    plain_pod(node)
    assert scene.agent_json(node, "apply")["changed"] is False


def test_containerd_pulls_no_sandbox_image_that_it_knows_which_is_why_apply_does(node: Node) -> None:
    """The premise: with the registry there, and the nydus snapshotter as the default, pods fail all the
    same.
    """
    parts.start_registry(node, port=5001)
    images.push_image(node, images.made() / "pause", pause(), PAUSE)
    scene.agent(node, "apply")
    (key,) = json.loads(node.run([*_CTR, "content", "get", _config_digest()]).stdout)["rootfs"]["diff_ids"]
    node.run([*_CTR, "snapshots", "--snapshotter", "nydus", "rm", key])
    discard_layer(node)
    with pytest.raises(NodeError, match="not found"):
        plain_pod(node)


def _config_digest() -> str:
    blobs = images.made() / "pause" / "blobs" / "sha256"
    manifest = json.loads((blobs / pause().manifest.removeprefix("sha256:")).read_text())
    return str(manifest["config"]["digest"])
