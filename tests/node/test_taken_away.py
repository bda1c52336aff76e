"""Whoever takes the fence or a part of it away while the mirror hangs: it is whole again within a second, and
a running container reads on without an error. Where there can be no fence, the agent says so and reads go on.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.others import Knocker

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

UNIT = "nydus-agent.service"
DROP_IN = "/run/systemd/system/nydus-agent.service.d/50-test.conf"
OTHER_SHAPE = (
    "delete table inet nydus_agent; table inet nydus_agent { set mirror4 { type ipv4_addr; }; "
    "chain output { type filter hook output priority 0; policy accept; }; }"
)
MENDED_S = 1.0
DISTURBANCES = {
    "a firewall that deletes foreign tables": (
        "for t in $(nft list tables | cut -d' ' -f3); do nft delete table inet $t; done"
    ),
    "the table deleted": "nft delete table inet nydus_agent",
    "a set deleted": "nft 'flush chain inet nydus_agent output; delete set inet nydus_agent mirror4'",
    "the element deleted": "nft flush set inet nydus_agent mirror4",
    "the rules deleted": "nft flush chain inet nydus_agent output",
    "the table switched off": "nft 'add table inet nydus_agent { flags dormant; }'",
    "a table of another shape": f"nft '{OTHER_SHAPE}'",
    "the chain made anew, at another priority": (
        "nft list table inet nydus_agent >/run/table; sed -i 's/priority [^;]*;/priority 10;/' /run/table; "
        "sed -i '1i delete table inet nydus_agent' /run/table; nft -f /run/table"
    ),
}


def fenced(node: Node) -> list[str]:
    """The elements of our sets, as nft prints them."""
    listed = node.run(["nft", "--json", "list", "ruleset"]).stdout
    sets = [entry["set"] for entry in json.loads(listed)["nftables"] if "set" in entry]
    ours = [item for item in sets if item["table"] == "nydus_agent"]
    return [json.dumps(element["elem"]["val"]) for item in ours for element in item.get("elem", [])]


def open_ms(node: Node, knocker: Knocker, command: str) -> float:
    """For how long, from a command that takes something of the fence away, connects passed."""
    seen, at = len(knocker.passed()), time.monotonic()
    node.run(command)
    knocker.wait_for(200)
    assert whole(node), command
    return max((passed - at for passed in knocker.passed()[seen:]), default=0.0) * 1000


def whole(node: Node) -> bool:
    """Whether the table is what it must be, with the mirror in it."""
    table = node.run(
        ["nft", "--numeric-priority", "list", "table", "inet", "nydus_agent"], check=False
    ).stdout
    chain = "type filter hook output priority -150; policy accept;"
    return chain in table and table.count("reject with tcp reset") == 2 and len(fenced(node)) == 1


def test_whoever_takes_the_fence_away_it_is_whole_again_within_a_second(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    node, gaps = stage.node, {}
    stage.mirror.unit.freeze()
    try:
        node.wait_until(lambda: scene.daemon_status(node)["health_state"] == "down", 15, "the mirror is down")
        with Knocker(node) as knocker:
            for what, command in DISTURBANCES.items():
                gaps[what] = open_ms(node, knocker, command)
                reader.wait_for(3)
                assert reader.errors() == [], what
    finally:
        stage.mirror.unit.thaw()
    print("connects passed for", {what: f"{gap:.0f} ms" for what, gap in gaps.items()})
    assert max(gaps.values()) < MENDED_S * 1000
    assert sum(gap > 0 for gap in gaps.values()) >= len(gaps) / 2, "most of these do take the fence away"
    scene.wait_for_route(node, "mirror", 60)


def test_a_table_that_was_taken_away_while_nothing_is_fenced_is_ready_again_before_it_is_needed(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    stage.node.run("nft flush ruleset")
    table = ["nft", "list", "table", "inet", "nydus_agent"]
    stage.node.wait_until(
        lambda: stage.node.run(table, check=False).returncode == 0, 2, "the table is there again"
    )
    assert fenced(stage.node) == []


def test_what_is_lifted_leaves_an_empty_table_and_a_stopped_agent_none(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    node = stage.node
    stage.mirror.unit.freeze()
    scene.wait_for_route(node, "origin", 10)
    assert len(fenced(node)) == 1
    stage.mirror.unit.thaw()
    scene.wait_for_route(node, "mirror", 60)
    assert fenced(node) == []
    assert "nydus_agent" in node.run(["nft", "list", "tables"]).stdout
    node.run(["systemctl", "stop", UNIT])
    assert "nydus_agent" not in node.run(["nft", "list", "ruleset"]).stdout
    node.run(["systemctl", "start", UNIT])


NO_RIGHT = "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n"
NO_NFT = "[Service]\nTemporaryFileSystem=/usr/lib/python3/dist-packages/nftables:ro\n"


@pytest.mark.allow_warnings(r"^nydus-agent.service: (FenceUnusable|\w+): ")
@pytest.mark.parametrize(("setting", "reason"), [(NO_RIGHT, "CAP_NET_ADMIN"), (NO_NFT, "libnftables")])
def test_without_a_fence_the_agent_says_why_and_a_mirror_that_dies_costs_no_read(
    stage: scene.Stage, reader: scene.Reader, setting: str, reason: str
) -> None:
    node = stage.node
    node.write(DROP_IN, setting)
    node.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
    try:
        node.wait_until(lambda: scene.daemon_status(node)["mode"] == "native", 10, "the mode is native")
        assert reason in scene.daemon_status(node)["mode_reason"]
        assert reason in scene.agent(node, "status", check=False).stdout
        assert "nydus_agent" not in node.run(["nft", "list", "tables"]).stdout
        stage.mirror.unit.kill("KILL")
        reader.wait_for(30)
    finally:
        node.run(f"rm {DROP_IN} && systemctl daemon-reload && systemctl restart {UNIT}")
        stage.mirror.start_again()
    scene.wait_for_route(node, "mirror", 60)
    assert scene.daemon_status(node)["mode"] == "fence"
