"""The quick form of what `make bench-crash` does on a booted node: real restarts, a real containerd."""

from __future__ import annotations

import pytest

from tests.bench.survival import node

_ROUNDS = 10


@pytest.mark.allow_warnings(".*")  # what is done to the node is what is warned of
def test_a_change_that_is_killed_at_any_moment_leaves_a_node_on_which_containerd_starts() -> None:
    with node.installed() as booted:
        tallies = node.rounds(booted, _ROUNDS, seed=41)
    for tally in tallies:
        print(tally.name, dict(tally.counts))
    assert [line for tally in tallies for line in tally.story()] == []
    assert sum(tally.counts["containerd started"] for tally in tallies) == _ROUNDS
    assert sum(tally.counts["in the transaction"] for tally in tallies) >= _ROUNDS // 3
    assert sum(tally.counts["power cut"] for tally in tallies) == 1
