"""Whatever somebody does to our table, it is noticed, and the next renewal makes it whole."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.netfilter.fence import NftFence
from tests.contract.netns import own_network

MIRROR = ("127.0.0.1", 4001)
OTHER_SHAPE = (
    "delete table inet nydus_agent; table inet nydus_agent { set mirror4 { type ipv4_addr; }; "
    "chain output { type filter hook output priority 0; policy accept; }; }"
)
DONE = {
    "the ruleset flushed": "nft flush ruleset",
    "the table deleted": "nft delete table inet nydus_agent",
    "the table switched off": "nft 'add table inet nydus_agent { flags dormant; }'",
    "a table of another shape": f"nft '{OTHER_SHAPE}'",
    "a set deleted": "nft 'flush chain inet nydus_agent output; delete set inet nydus_agent mirror4'",
    "the counter deleted": "nft 'flush chain inet nydus_agent output; delete counter inet nydus_agent "
    "refused'",
    "the chain deleted": "nft 'flush chain inet nydus_agent output; delete chain inet nydus_agent output'",
    "the chain's policy changed": "nft 'chain inet nydus_agent output { policy drop; }'",
    "the rules deleted": "nft flush chain inet nydus_agent output",
    "a rule before ours": "nft insert rule inet nydus_agent output accept",
    "the element deleted": "nft flush set inet nydus_agent mirror4",
    "all made anew at another priority": (
        "nft list table inet nydus_agent | sed 's/priority [^;]*;/priority 10;/; 1i delete table inet "
        "nydus_agent' | nft -f -"
    ),
}


@pytest.fixture
def fence() -> Iterator[NftFence]:
    with own_network(), closing(NftFence(61234)) as made:
        made.assert_table()
        made.renew(*MIRROR, 10_000)
        yield made


def listed() -> list[str]:
    """The table as nft prints it, without what changes by itself, in no order."""
    argv = ["nft", "list", "table", "inet", "nydus_agent"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
    return sorted(re.sub(r"packets \d+ bytes \d+|expires \w+", "", text).splitlines())


@pytest.mark.parametrize("what", DONE)
def test_it_is_noticed_and_mended(fence: NftFence, what: str) -> None:
    before = listed()
    assert fence.stands(*MIRROR)
    subprocess.run(["bash", "-ec", DONE[what]], check=True, timeout=60)
    assert not fence.stands(*MIRROR)
    fence.renew(*MIRROR, 10_000)
    assert fence.stands(*MIRROR)
    assert listed() == before


def test_what_others_do_elsewhere_is_no_reason_to_mend(fence: NftFence) -> None:
    others = "table inet filter { chain input { type filter hook input priority 0; policy accept; }; }"
    subprocess.run(["nft", others], check=True, timeout=60)
    assert fence.stands(*MIRROR)
