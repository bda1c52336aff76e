"""A mirror behind a rewritten address, as of a NodePort or a Service: the fence is met before the
rewriting.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.node import scene

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

NODE = "10.77.0.1"
SITE = f"""\
{scene.HTTP_SITE}
[mirror]
url = "http://{NODE}:30401"
ping_url = "http://{NODE}:30403/healthy"
"""
TRANSLATION = f"""\
table ip services {{
    chain rewrite {{
        ip daddr {NODE} tcp dport 30401 dnat to 127.0.0.1:4001
        ip daddr {NODE} tcp dport 30403 dnat to 127.0.0.1:4003
    }}
    chain prerouting {{ type nat hook prerouting priority dstnat; jump rewrite; }}
    chain output {{ type nat hook output priority dstnat; jump rewrite; }}
}}
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged("reader-nydus", installed=False) as made:
        made.node.run(f"ip link add host0 type veth peer name host1 && ip address add {NODE}/24 dev host0 && "
                      "ip link set host0 up && ip link set host1 up")  # fmt: skip
        made.node.run(["nft", "-f", "-"], input=TRANSLATION)
        scene.install(made.node, SITE)
        scene.pull(made.node, made.ref("reader-nydus"))
        yield made


def test_the_fence_is_shown_to_see_it_and_reads_come_through_it(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    status = scene.daemon_status(stage.node)
    assert status["mode"] == "fence"
    assert "the mirror's own address is seen" in status["fence"]["self_test_reason"]
    before = stage.mirror.stats()["blob_bytes"]
    reader.wait_for(20)
    assert stage.mirror.stats()["blob_bytes"] > before


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_its_end_costs_no_read(stage: scene.Stage, reader: scene.Reader, how: str) -> None:
    at = time.time()
    if how == "killed":
        stage.mirror.unit.kill("KILL")
    else:
        stage.mirror.unit.freeze()
    scene.wait_for_route(stage.node, "origin", 10)
    took_ms = (float(scene.daemon_status(stage.node)["route_since"]) - at) * 1000
    reader.wait_for(30)
    slowest_ms = reader.slowest_ms(at)
    print(
        f"{how} behind a rewritten address: origin after {took_ms:.0f} ms, slowest read {slowest_ms:.0f} ms"
    )
    assert reader.errors() == []
    assert slowest_ms < 2500
    assert f"{NODE} . 30401" in stage.node.run(["nft", "list", "ruleset"]).stdout
    if how == "killed":
        stage.mirror.start_again()
    else:
        stage.mirror.unit.thaw()
    scene.wait_for_route(stage.node, "mirror", 60)
