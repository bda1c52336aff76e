"""`nydus-agent bench` with a real dfdaemon and a second one on another host: the cases that the node can
give, what the bytes say, and nothing left.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.bench import startup
from tests.node import scene
from tests.node.dragonfly import DragonflyStage, benched, ran, staged

IMAGES = ("reader", "reader-nydus")
COMMAND = "/reader read /data 20 0 1"
CHART = "/root/bench.svg"
SOCKET = "/run/dragonfly/dfdaemon.sock"
CTR = ("ctr", "--namespace", "k8s.io")
CASES = {"nydus-cold", "local-peer", "nydus-cache"}
"""What every bench of a nydus image measures here; the start with a Dragonfly that is cold is one of two
cases.
"""

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |ReadsGoAround: )")


@pytest.fixture(scope="module")
def stage() -> Iterator[DragonflyStage]:
    with staged(*IMAGES, shares=startup.drawing(), beside=True) as made:
        scene.wait_for_route(made.node, "mirror", 60)
        yield made


def pair(stage: DragonflyStage) -> list[str]:
    return ["--oci", stage.ref(IMAGES[0]), "--nydus", stage.ref(IMAGES[1]), "--command", COMMAND]


def test_the_cases_of_the_page_are_measured_proved_by_bytes_drawn_and_nothing_is_left(
    stage: DragonflyStage,
) -> None:
    before = startup.left(stage.node)
    cases = benched(stage.node, *pair(stage), "--chart", CHART)
    assert cases.keys() - ran(cases) == {"remote-peer"}
    assert cases["remote-peer"]["not_run"].startswith("no other peer had the image's data")
    moved = {name: case["runs"][0]["bytes"] for name, case in cases.items() if case["runs"]}
    assert moved["nydus-cold"]["source"] == 0 < moved["nydus-cold"]["fetched"]
    assert moved["mirror-cold"]["source"] >= 0.9 * moved["mirror-cold"]["fetched"] > 0
    assert (
        moved["local-peer"]["local"]
        >= 0.9 * moved["local-peer"]["fetched"]
        > 0
        == moved["local-peer"]["source"]
    )
    assert moved["nydus-cache"]["fetched"] == 0
    assert "hit on the local peer" in stage.node.read(CHART)
    assert startup.left(stage.node) == before


def test_a_start_with_data_of_another_peer_is_told_by_the_bytes_of_both_peers(stage: DragonflyStage) -> None:
    before = startup.left(stage.node)
    size = stage.share(IMAGES[1])
    sent, asked = uploaded(stage), stage.registry.blob_bytes()
    cases = benched(stage.node, "--nydus", stage.ref(IMAGES[1]), "--command", COMMAND)
    moved = cases["remote-peer"]["runs"][0]["bytes"]
    sent, asked = uploaded(stage) - sent, stage.registry.blob_bytes() - asked
    print(f"of {size} bytes: {moved}; the other peer sent {sent:.0f}, the registry {asked}, for all starts")
    # From the registry: the bootstrap, which the other peer has not, and the piece of the first small read.
    # dfdaemon asks no scheduler about a range of 4 MiB or less (should_bypass_scheduler); what it fetches
    # ahead is found there.
    assert sent >= moved["remote"] >= 0.9 * size > 10 * moved["source"]
    assert asked < 0.1 * size, "by the registry's own account, the start without Dragonfly included"
    assert cases["mirror-cold"]["not_run"].startswith("other peers had the image's data each time: 0.")
    assert startup.left(stage.node) == before


def uploaded(stage: DragonflyStage) -> float:
    """Bytes that the other host's peer has sent to peers, by its own account."""
    assert stage.peers is not None
    return stage.peers.other_metrics().get("dragonfly_client_upload_traffic", 0)


def test_without_yes_it_only_tells_what_it_would_do(stage: DragonflyStage) -> None:
    before = startup.left(stage.node)
    done = stage.node.run(["nydus-agent", "bench", *pair(stage)], check=False)
    assert done.returncode == 2
    assert "page cache" in done.stderr
    assert startup.left(stage.node) == before


def test_an_interrupted_bench_tells_what_it_has_and_leaves_the_node_as_it_found_it(
    stage: DragonflyStage,
) -> None:
    before = startup.left(stage.node)
    socket = ["--dfdaemon-socket", SOCKET]
    argv = stage.node.argv(["nydus-agent", "bench", *pair(stage), "-n", "1", "--yes", *socket])
    piped = subprocess.PIPE
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=piped, stderr=piped, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        watchdog = threading.Timer(400, process.kill)
        watchdog.start()
        try:
            told = [line for line in iter(process.stderr.readline, "") if _interrupts(stage, line)]
            assert process.wait(120) == 130, told
            assert "incomplete: somebody stopped it" in process.stdout.read()
        finally:
            watchdog.cancel()
            process.kill()
    assert startup.left(stage.node) == before


def _interrupts(stage: DragonflyStage, line: str) -> bool:
    """In the middle of a nydus image's start, with the route at the origin or on its way there."""
    if "[1/1] OCI cold" in line:
        stage.node.run(["pkill", "-INT", "-f", "nydus-agent bench"])
    return True


def test_a_server_that_never_ends_is_ready_at_its_line_and_is_ended(stage: DragonflyStage) -> None:
    before = startup.left(stage.node)
    words = ["--command", "/reader read /data 20 50 0", "--ready", r'"ms": *[\d.]+']
    oci, *others = benched(stage.node, "--oci", stage.ref(IMAGES[0]), *words).values()
    assert oci["ready_s"]["p50"] >= oci["first_output_s"]["p50"] > oci["pull_s"]["p50"]
    assert {case["not_run"] for case in others} == {"no nydus image was named"}
    assert startup.left(stage.node) == before


def test_an_image_that_a_container_uses_stays_and_one_that_nobody_uses_is_taken_away_and_comes_back(
    stage: DragonflyStage,
) -> None:
    node, ref = stage.node, stage.ref(IMAGES[1])
    scene.pull(node, ref)
    user = ["--detach", "--cpu-shares", "0", "--snapshotter", "nydus", ref, "a-pod"]
    node.run([*CTR, "run", *user, *["/reader", "read", "/data", "20", "50", "0"]])
    there = startup.left(node)
    taking_away = ["--nydus", ref, "--command", COMMAND, "--take-away"]
    cases = benched(node, *taking_away)
    assert ran(cases) == {"nydus-cache"}
    assert "container a-pod uses it" in cases["nydus-cold"]["not_run"]
    assert startup.left(node) == there

    node.run([*CTR, "tasks", "delete", "--force", "a-pod"])
    node.run([*CTR, "containers", "delete", "a-pod"])
    node.run([*CTR, "snapshots", "--snapshotter", "nydus", "rm", "a-pod"], check=False)
    there = images_and_snapshots(stage)
    cases = benched(node, *taking_away)
    assert CASES < ran(cases) < CASES | {"mirror-cold", "remote-peer"}
    assert cases["nydus-cold"]["runs"][0]["bytes"]["fetched"] > 0
    assert images_and_snapshots(stage) == there
    node.run(["crictl", "rmi", ref])


def images_and_snapshots(stage: DragonflyStage) -> set[str]:
    """What is left but nydusd's cache, which begins anew."""
    return {thing for thing in startup.left(stage.node) if not thing.startswith("cache ")}
