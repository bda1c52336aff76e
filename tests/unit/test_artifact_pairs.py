"""Versions that are known not to work are refused with the reason, before anything is downloaded."""

from __future__ import annotations

import pytest

from agent.artifacts.pairs import Pair, cautions, refused
from agent.config.model import DaemonMode, Dialect


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (Pair((2, 3, 5), (0, 15, 15), Dialect.MIRRORS), "nydusd 2.3.5 ignores mirrors silently (removed in 2.3.5)"),
        (Pair((2, 2, 0), (0, 16, 0), Dialect.MIRRORS), "snapshotter 0.16.0 does not pass mirrors on (since 0.16)"),
        (Pair((3, 0, 0)), "another program with another configuration"),
        (Pair((2, 0, 1)), "knows no use_http"),
        (Pair(None, (0, 5, 1)), "takes --config for nydusd's template"),
    ],
)
def test_a_pair_that_cannot_work_is_refused_with_the_reason(pair: Pair, reason: str) -> None:
    assert [text for text in refused(pair) if reason in text]


@pytest.mark.parametrize(
    "pair",
    [
        Pair((2, 4, 4), (0, 16, 1)),
        Pair((2, 2, 0), (0, 13, 4)),
        Pair((2, 3, 4), (0, 15, 15), Dialect.MIRRORS),
        Pair(None, None, Dialect.MIRRORS),
    ],
)
def test_nothing_is_refused_that_upstream_s_sources_do_not_speak_against(pair: Pair) -> None:
    assert refused(pair) == ()


def test_every_reason_is_told_at_once() -> None:
    assert len(refused(Pair((3, 1, 0), (0, 16, 1), Dialect.MIRRORS))) == 3


def test_what_works_but_not_well_is_a_caution_that_names_the_report() -> None:
    assert any("containerd/nydus-snapshotter#687" in text for text in cautions(Pair(None, (0, 15, 13))))
    assert any("shared mode" in text for text in cautions(Pair(None, (0, 16, 1), daemon_mode=DaemonMode.SHARED)))
    assert cautions(Pair((2, 4, 4), (0, 16, 1))) == ()
