"""Images that are on a node before a change still start after it: containerd's database refers to what lies
below the snapshotter's root, so another root is refused, and a snapshotter that was there before us keeps its
own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import ANY_CHANGE
from tests.node.matrix import ground
from tests.node.matrix.ground import COMMAND, Ground

UNIT = "nydus-snapshotter.service"
OURS = "/var/lib/containerd-nydus"
THEIRS = "/var/lib/containerd/io.containerd.snapshotter.v1.nydus"
"""What upstream's snapshotter takes since 0.13.14."""
ELSEWHERE = "/var/lib/elsewhere"
_UNIT = """\
[Unit]
Description=somebody's own snapshotter
[Service]
ExecStart=/usr/local/bin/containerd-nydus-grpc --config /etc/theirs/snapshotter.toml
KillMode=process
[Install]
WantedBy=multi-user.target
"""
_KEPT = "/var/tmp/kept"
_BECOME_THEIRS = f"""
rm -rf /etc/containerd && cp -a {_KEPT}/containerd /etc/containerd
find /etc/containerd -type f -exec sed -i 's,zz-nydus-agent[*],*,; /nydus-agent/d; s,{OURS},{THEIRS},' {{}} +
find /etc/containerd -name zz-nydus-agent.toml -execdir mv {{}} snapshotter.toml ';'
cp -a {_KEPT}/nydus /etc/theirs
find /etc/theirs -type f -exec sed -i '/nydus-agent/d; s,{OURS},{THEIRS},; s,/etc/nydus/,/etc/theirs/,' {{}} +
systemctl daemon-reload && systemctl enable --now {UNIT} && systemctl restart containerd
"""

pytestmark = pytest.mark.allow_warnings(*ANY_CHANGE)


@pytest.fixture(scope="module", params=["1.7", "2.1"])
def made(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """A node with a snapshotter that somebody set up, and an image on it; nothing of ours is applied."""
    with ground.ready(request.param) as ready:
        node = ready.node
        scene.agent(node, "apply", "--now", check=False)
        node.run(f"mkdir -p {_KEPT} && cp -a /etc/containerd /etc/nydus {_KEPT}/")
        scene.agent(node, "remove")
        # What that apply has unpacked is not theirs: containerd begins anew.
        node.run(
            f"systemctl stop containerd && rm -rf {OURS} /var/lib/containerd && systemctl start containerd"
        )
        ground.load_pause(node)
        node.write(f"/etc/systemd/system/{UNIT}", _UNIT)
        node.run(_BECOME_THEIRS)
        node.wait_until(lambda: node.exists(f"{THEIRS}/nydus.db"), 20, "theirs serves")
        scene.pull(node, ready.ref)
        starts(ready)
        yield ready


def starts(made: Ground) -> None:
    """A new pod of the image that was there."""
    assert '"error": null' in scene.pod(made.node, made.ref, COMMAND).replace('"error":null', '"error": null')


def files(node: Node) -> str:
    return node.run(
        "find /etc/containerd /etc/nydus /etc/systemd/system -type f -exec sha256sum {} + | sort"
    ).stdout


def test_a_snapshotter_that_was_there_keeps_its_root_and_its_images_start(made: Ground) -> None:
    node = made.node
    planned = scene.agent(node, "plan", check=False)
    done = scene.agent(node, "apply", "--now", check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    starts(made)
    assert f'root = "{THEIRS}"' in node.read("/etc/nydus/snapshotter.toml")
    assert f"{THEIRS} is kept" in planned.stdout
    assert scene.agent_json(node, "apply")["changed"] is False
    assert not node.exists(f"{OURS}/metadata.db")


def test_another_root_is_refused_with_the_way_while_containerd_has_images_there(made: Ground) -> None:
    node = made.node
    setting = "/etc/nydus-agent/conf.d/60-root.toml"
    before, process = files(node), node.main_pid(UNIT)
    node.write(setting, f'[snapshotter]\nroot = "{ELSEWHERE}"\n')
    try:
        planned = scene.agent(node, "plan", check=False)
        applied = scene.agent(node, "apply", "--now", check=False)
        starts(made)
        for done in (planned, applied):
            said = done.stdout + done.stderr
            assert done.returncode == 2, said
            assert "NNA0305" in said
            assert ELSEWHERE in said
            assert THEIRS in said
        assert (files(node), node.main_pid(UNIT)) == (before, process)
    finally:
        node.run(["rm", setting])


def test_another_root_is_taken_once_no_image_is_left(made: Ground) -> None:
    node = made.node
    node.write("/etc/nydus-agent/conf.d/60-root.toml", f'[snapshotter]\nroot = "{ELSEWHERE}"\n')
    node.run(["crictl", "rmi", "--all"])
    done = scene.agent(node, "apply", "--now", check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    ground.load_pause(node)
    scene.pull(node, made.ref)
    starts(made)
    assert node.exists(f"{ELSEWHERE}/metadata.db")
