"""Versions that are known not to work are refused with the reason; of those that work badly a plan warns."""

from __future__ import annotations

import pytest

from agent.config.model import DaemonMode
from agent.programs.versions import Pair, cautions, mirrors, refused


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (Pair((3, 0, 0)), "another program with another configuration"),
        (Pair((2, 0, 1)), "knows no use_http"),
        (Pair(None, (0, 13, 5)), "has another name and layout"),
    ],
)
def test_a_version_that_cannot_work_is_refused_with_the_reason(pair: Pair, reason: str) -> None:
    (told,) = refused(pair)
    assert reason in told


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (Pair((2, 3, 5), (0, 15, 15)), "nydusd 2.3.5 ignores mirrors silently (removed in 2.3.5)"),
        (Pair((2, 2, 0), (0, 16, 0)), "snapshotter 0.16.0 does not pass mirrors on (since 0.16)"),
    ],
)
def test_the_mirrors_dialect_is_refused_where_it_cannot_work(pair: Pair, reason: str) -> None:
    assert mirrors(pair) == (reason,)


def test_every_reason_is_told_at_once() -> None:
    assert len(refused(Pair((3, 1, 0), (0, 13, 5)))) == 2
    assert len(mirrors(Pair((2, 4, 4), (0, 16, 1)))) == 2


@pytest.mark.parametrize("pair", [Pair((2, 4, 4), (0, 16, 1)), Pair((2, 2, 0), (0, 13, 6)), Pair(None, None)])
def test_nothing_is_refused_that_upstream_s_sources_do_not_speak_against(pair: Pair) -> None:
    assert refused(pair) == ()
    assert mirrors(Pair((2, 3, 4), (0, 15, 15))) == ()


def test_what_works_but_not_well_is_a_caution_that_names_the_report() -> None:
    assert any("containerd/nydus-snapshotter#687" in text for text in cautions(Pair(None, (0, 15, 13))))
    assert any(
        "shared mode" in text for text in cautions(Pair(None, (0, 16, 1), daemon_mode=DaemonMode.SHARED))
    )
    assert cautions(Pair((2, 4, 4), (0, 16, 1))) == ()
