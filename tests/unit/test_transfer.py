"""What a connection of containerd's is doing, told from the kernel's figures alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.facts.transfer import Standing, Transfer, standing

PATIENCE_S = 30.0
COMING = Transfer(sent_ms=5000, received_ms=8, acknowledged_ms=8)
"""A request five seconds ago, and the last bytes of its answer a moment ago."""


@pytest.mark.parametrize(
    ("what", "transfer", "expected"),
    [
        (
            "a connect that nobody answers",
            replace(COMING, connecting=True, established=False),
            Standing.WAITING,
        ),
        ("connected, nothing asked yet", Transfer(answered=False), Standing.WAITING),
        ("the first request", Transfer(answered=False, sent_ms=3000, received_ms=3004), Standing.WAITING),
        ("a request that did not arrive", replace(COMING, unacknowledged=True), Standing.WAITING),
        (
            "the next request on a kept connection",
            replace(COMING, sent_ms=4, received_ms=8000),
            Standing.WAITING,
        ),
        ("a flowing answer", COMING, Standing.FLOWING),
        ("an answer that paused", replace(COMING, sent_ms=40_000, received_ms=29_996), Standing.FLOWING),
        ("an answer that stopped", replace(COMING, sent_ms=40_000, received_ms=30_000), Standing.STALLED),
        ("idle for long", replace(COMING, sent_ms=90_004, received_ms=90_000), Standing.STALLED),
        (
            "its owner is slow",
            replace(COMING, sent_ms=90_000, received_ms=60_000, unread=True),
            Standing.FLOWING,
        ),
        ("closed by one side", replace(COMING, established=False, received_ms=60_000), Standing.ENDING),
    ],
)
def test_who_spoke_last_says_where_it_stands(what: str, transfer: Transfer, expected: Standing) -> None:
    assert standing(transfer, PATIENCE_S) is expected, what


@pytest.mark.parametrize(
    ("acknowledged_ms", "expected"),
    [
        (1000, Standing.FLOWING),  # the answer acknowledged its request: it has begun
        (960, Standing.WAITING),  # the request was acknowledged alone, 40 ms later: nothing of an answer came
        (700, Standing.WAITING),
        (
            696,
            Standing.FLOWING,
        ),  # too late for that: a keep-alive's answer, which says nothing of the request
        (1004, Standing.FLOWING),
    ],
)
def test_within_one_tick_of_the_kernels_clock_the_acknowledgement_decides(
    acknowledged_ms: int, expected: Standing
) -> None:
    at_once = Transfer(sent_ms=1000, received_ms=1000, acknowledged_ms=acknowledged_ms)
    assert standing(at_once, PATIENCE_S) is expected


def test_the_patience_is_the_callers() -> None:
    paused = replace(COMING, sent_ms=5000, received_ms=2000)
    assert standing(paused, 2.0) is Standing.STALLED
    assert standing(paused, 2.1) is Standing.FLOWING
