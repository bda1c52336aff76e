"""Questions to the kernel over netlink, and what becomes of one that it does not answer."""

from __future__ import annotations

import errno
import time
from contextlib import closing

import pytest

from agent.netfilter.netlink import NetlinkError, NetlinkMessage, NetlinkSocket
from tests.contract.waiting import ENDS_S

_ROUTE, _NOOP = 0, 1  # NETLINK_ROUTE; NLMSG_NOOP, which the kernel passes over
_GET_LINK = 18  # RTM_GETLINK


def test_what_the_kernel_does_not_answer_ends_with_its_deadline_and_the_next_question_is_answered() -> None:
    with closing(NetlinkSocket(_ROUTE, deadline_s=0.1)) as link:
        began = time.monotonic()
        with pytest.raises(NetlinkError) as caught:
            link.get(NetlinkMessage(_NOOP, 0, b""))
        assert caught.value.code == errno.ETIMEDOUT
        assert 0.1 <= time.monotonic() - began < ENDS_S
        assert link.dump(NetlinkMessage(_GET_LINK, 0, bytes(16)))
