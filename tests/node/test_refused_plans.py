"""Plans that are refused before anything is touched: a restart that would end the mounts of running
containers, because of a drop-in of others; a file of containerd's that another program writes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import ANY_CHANGE

UNIT = "nydus-snapshotter.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/50-kill.conf"
SETTING = "/etc/nydus-agent/conf.d/60-level.toml"
PLACES = "/etc/nydus-agent/conf.d/70-places.toml"
RELOAD = ["systemctl", "daemon-reload"]

pytestmark = pytest.mark.allow_warnings(*ANY_CHANGE)


@pytest.fixture
def node(stage: scene.Stage) -> Iterator[Node]:
    """The configuration wants something else of the snapshotter, which it reads at its start only."""
    stage.node.write(SETTING, '[snapshotter]\nlog_level = "debug"\n')
    yield stage.node
    stage.node.run(f"rm -rf {SETTING} {DROP_IN.rpartition('/')[0]} && systemctl daemon-reload")


@pytest.mark.parametrize(
    ("mode", "read"), [("control-group", True), ("mixed", True), ("control-group", False)]
)
def test_no_restart_ends_a_running_container_s_mount_whatever_a_drop_in_says(
    stage: scene.Stage, node: Node, mode: str, read: bool
) -> None:
    with scene.Reader(node, stage.ref("reader-nydus")) as reader:
        reader.wait_for(5)
        before = node.main_pid(UNIT)
        node.write(DROP_IN, f"[Service]\nKillMode={mode}\n")
        if read:
            node.run(RELOAD)
        planned = scene.agent(node, "plan", check=False)
        applied = scene.agent(node, "apply", check=False)
        reader.wait_for(5)
        assert reader.errors() == []
        assert node.main_pid(UNIT) == before
        for done in (planned, applied):
            said = done.stdout + done.stderr
            assert done.returncode == 2, said
            assert "NNA0304" in said
            assert f"{DROP_IN} sets KillMode={mode}" in said
            assert "keep their nydusd" not in said


@pytest.mark.parametrize("read", [True, False])
def test_a_drop_in_that_is_taken_away_is_no_obstacle_once_systemd_will_read_that(
    stage: scene.Stage, node: Node, read: bool
) -> None:
    with scene.Reader(node, stage.ref("reader-nydus")) as reader:
        reader.wait_for(5)
        before = node.main_pid(UNIT)
        node.write(DROP_IN, "[Service]\nKillMode=control-group\n")
        node.run(RELOAD)
        node.run(["rm", DROP_IN])
        if read:
            node.run(RELOAD)
        done = scene.agent(node, "apply", "--now", check=False)
        assert done.returncode in (0, 3), done.stdout + done.stderr
        assert node.main_pid(UNIT) != before
        reader.wait_for(5)
        assert reader.errors() == []
        node.run(["rm", SETTING])
        assert scene.agent(node, "apply", "--now", check=False).returncode in (0, 3)


@pytest.mark.parametrize(
    ("path", "head", "who"),
    [
        ("/etc/k0s/containerd.toml", "# k0s_managed=true\n", "k0s"),
        ("/var/snap/microk8s/current/args/containerd.toml", "", "MicroK8s"),
        ("/var/snap/microk8s/current/args/containerd-template.toml", "", "MicroK8s"),
    ],
)
def test_no_file_is_changed_that_another_program_writes(
    stage: scene.Stage, path: str, head: str, who: str
) -> None:
    node = stage.node
    text = f'{head}version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  enable_selinux = false\n'
    node.run(["mkdir", "-p", path.rpartition("/")[0]])
    node.write(path, text)
    node.write(PLACES, f'[containerd]\nconfig = "{path}"\n')
    try:
        for verb in (["plan"], ["apply", "--now"]):
            done = scene.agent(node, *verb, check=False)
            assert done.returncode == 2, done.stdout + done.stderr
            assert "NNA0318" in done.stderr
            assert f"{path} is {who}' own" in done.stderr
        assert node.read(path) == text
        assert node.run(["ls", path.rpartition("/")[0]]).stdout.split() == [path.rpartition("/")[2]]
    finally:
        node.run(["rm", "-r", PLACES, path.rpartition("/")[0]])
