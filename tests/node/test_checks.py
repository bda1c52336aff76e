"""Each check of the proof fails for its own reason: every test breaks exactly one thing and reads the
headline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node

# What was changed here is told as a condition, as it must be; by and by, so also in a later test.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (ChangedSinceProof|Drift): ")

SNAPSHOTTER = "nydus-snapshotter.service"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged("python-nydus") as made:
        scene.pull(made.node, made.ref("python-nydus"))
        assert scene.start_nydus(made.node, made.ref("python-nydus")).output == "hello from python\n"
        yield made


@pytest.fixture(autouse=True)
def whole(stage: scene.Stage) -> Iterator[None]:
    """Before and after each test all checks are proved, so that what it sees is its own doing."""
    yield
    proof = scene.agent_json(stage.node, "doctor")
    assert {check["state"] for check in proof["checks"]} == {"ok"}, json.dumps(proof, indent=1)


def headline(node: Node) -> tuple[int, str]:
    """(number, cause with evidence) of the first check that is not proved; `doctor` must not exit 0."""
    done = scene.agent(node, "doctor", "--format", "json", check=False)
    assert done.returncode in (3, 4)
    proof = json.loads(done.stdout)
    first = next(check for check in proof["checks"] if check["state"] != "ok")
    assert first["state"] == "failed", first
    assert first["code"].startswith("NNA")
    assert first["try"], "a failure names the next command"
    return first["number"], " ".join([first["detail"], first["cause"], *first["evidence"]])


def test_check_1_names_a_nydusd_of_another_architecture(stage: scene.Stage) -> None:
    node = stage.node
    node.run("cp -a /usr/local/bin/nydusd /usr/local/bin/nydusd.kept")
    # A new file, because the old one is being executed.
    node.run(
        "cp /usr/local/bin/nydusd /usr/local/bin/nydusd.new && "
        r"printf '\xb7\x00' | dd of=/usr/local/bin/nydusd.new bs=1 seek=18 conv=notrunc status=none && "
        "mv /usr/local/bin/nydusd.new /usr/local/bin/nydusd"
    )
    try:
        number, told = headline(node)
    finally:
        node.run("mv /usr/local/bin/nydusd.kept /usr/local/bin/nydusd")
    assert number == 1
    assert "arm64" in told


def test_check_2_names_a_unit_that_would_kill_the_mounts(stage: scene.Stage) -> None:
    node = stage.node
    node.write(f"/etc/systemd/system/{SNAPSHOTTER}.d/50-kill.conf", "[Service]\nKillMode=control-group\n")
    node.run(["systemctl", "daemon-reload"])
    try:
        number, told = headline(node)
    finally:
        node.run(f"rm -r /etc/systemd/system/{SNAPSHOTTER}.d && systemctl daemon-reload")
    assert number == 2
    assert "KillMode" in told
    assert "50-kill.conf" in told


def test_check_3_names_a_snapshotter_that_does_not_answer(stage: scene.Stage) -> None:
    node = stage.node
    node.run(["systemctl", "kill", "--kill-whom=main", "--signal=STOP", SNAPSHOTTER])
    try:
        number, told = headline(node)
    finally:
        node.run(["systemctl", "kill", "--kill-whom=main", "--signal=CONT", SNAPSHOTTER])
    assert number == 3
    assert "containerd-nydus-grpc.sock" in told


def test_check_4_names_a_containerd_that_does_not_answer(stage: scene.Stage) -> None:
    node = stage.node
    node.run(["systemctl", "stop", "containerd"])
    try:
        number, told = headline(node)
    finally:
        node.run(["systemctl", "start", "containerd"])
    assert number == 4
    assert "containerd" in told


@pytest.mark.parametrize(
    ("wanted", "old", "new"),
    [
        (5, "containerd-nydus-grpc.sock", "elsewhere.sock"),
        (6, 'root = "/var/lib/containerd-nydus"', 'root = "/var/lib/elsewhere"'),
    ],
    ids=["address", "root"],
)
def test_a_check_names_what_containerd_really_uses(
    stage: scene.Stage, wanted: int, old: str, new: str
) -> None:
    before = stage.node.read(CONTAINERD_CONFIG)
    assert old in before

    def run_on(text: str) -> None:
        stage.node.write(CONTAINERD_CONFIG, text)
        stage.node.run(["systemctl", "restart", "containerd"])

    try:
        run_on(before.replace(old, new))
        number, told = headline(stage.node)
    finally:
        run_on(before)
    assert number == wanted
    assert new.rpartition(" ")[2].strip('"') in told


def test_check_7_names_a_snapshotter_that_cannot_make_a_snapshot(stage: scene.Stage) -> None:
    node = stage.node
    # In the snapshotter's own mount namespace, which is the node's.
    node.run("mount --bind /var/lib/containerd-nydus/snapshots /var/lib/containerd-nydus/snapshots")
    node.run("mount -o remount,ro,bind /var/lib/containerd-nydus/snapshots")
    try:
        number, told = headline(node)
    finally:
        node.run("umount --lazy /var/lib/containerd-nydus/snapshots")
    assert number == 7
    assert "read-only" in told.lower()


def test_check_8_names_a_running_nydusd_that_is_not_what_the_template_says(stage: scene.Stage) -> None:
    node = stage.node
    template = json.loads(node.read("/etc/nydus/nydusd-config.json"))
    before = node.read("/etc/nydus/nydusd-config.json")
    template["device"]["backend"]["config"]["proxy"]["url"] = "http://127.0.0.1:4999"
    node.write("/etc/nydus/nydusd-config.json", json.dumps(template))
    try:
        number, told = headline(node)
    finally:
        node.write("/etc/nydus/nydusd-config.json", before)
    assert number == 8
    assert "4999" in told


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |PingFails: )")
def test_check_9_names_a_mirror_whose_ping_url_does_not_answer(stage: scene.Stage) -> None:
    stage.mirror.ping("503")
    try:
        number, told = headline(stage.node)
    finally:
        stage.mirror.ping("ok")
        scene.wait_for_route(stage.node, "mirror", 120)
    assert number == 9
    assert "503" in told


@pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")
def test_check_10_names_the_bytes_that_did_not_come_through_the_mirror(stage: scene.Stage) -> None:
    node = stage.node
    # The ping and the canary are well, but every blob that the mirror is asked for is refused: nydusd falls
    # back.
    stage.mirror.fault("status", status=503, match="blobs/sha256")
    try:
        number, told = headline(node)
    finally:
        stage.mirror.fault()
        scene.wait_for_route(node, "mirror", 120)
    assert number == 10
    assert "bytes" in told
