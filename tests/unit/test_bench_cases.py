"""What a bench says of its runs: medians and spread, which case the bytes prove, the page's order, the
chart's data.
"""

from __future__ import annotations

import json

import pytest

from agent.bench import figures
from agent.bench.cases import (
    Case,
    CaseResult,
    CaseRun,
    Counted,
    came_from,
    from_mirror,
    from_origin,
    is_cached,
)
from agent.bench.figures import ImagePair, Measured, chart, spread

MB = 1_000_000


def runs(*ready_s: float, counted: Counted | None = None) -> tuple[CaseRun, ...]:
    return tuple(CaseRun(0.1, value - 0.05, value, counted or Counted(MB)) for value in ready_s)


def test_median_and_spread_are_those_of_a_textbook() -> None:
    seen = spread([9.0, 1.0, 3.0, 5.0, 7.0])
    assert (seen.n, seen.min, seen.p50, seen.max) == (5, 1.0, 5.0, 9.0)
    assert (seen.iqr, seen.mad) == (4.0, 2.0)
    assert spread([2.0, 4.0]).p50 == 3.0
    assert spread([]).n == 0


@pytest.mark.parametrize(
    ("counted", "was"),
    [
        (Counted(0, 10 * MB, 60 * MB, 0, 0), Case.MIRROR),
        (Counted(0, 10 * MB, 0, 60 * MB, 0), Case.REMOTE),
        (Counted(0, 10 * MB, 0, 0, 10 * MB), Case.LOCAL),
        (Counted(0, 10 * MB, 20_000, 0, 10 * MB), Case.LOCAL),
        (
            Counted(0, 10 * MB, 6 * MB, 4 * MB, 0),
            "it came from the origin (6.0 MB) and from other peers (4.0 MB)",
        ),
        (Counted(0, 10 * MB, 2 * MB, 0, 0), "only 2.0 MB of 10.0 MB came through the mirror"),
        (Counted(0, 10 * MB), "dfdaemon did not tell what it brought, or was started anew"),
        (Counted(0, None, 1, 1, 1), "nydusd did not tell what it fetched, or was started anew"),
        (Counted(0, 0, 1, 1, 1), "nydusd fetched nothing"),
    ],
)
def test_a_run_through_the_mirror_is_what_its_bytes_prove_and_not_what_was_meant(
    counted: Counted, was: Case | str
) -> None:
    assert came_from(counted) == was


def test_a_start_from_nydus_cache_is_one_only_where_next_to_nothing_was_fetched() -> None:
    assert is_cached(Counted(0, 100_000), 10 * MB) == ""
    assert is_cached(Counted(0, 2 * MB), 10 * MB) == "nydusd fetched 2.0 MB again"
    assert is_cached(Counted(0), 10 * MB) != ""


def test_bytes_of_the_origin_and_of_the_mirror_are_told_by_the_program_that_counted_them() -> None:
    counted = Counted(pulled=3, fetched=10, source=60, remote=0, local=0)
    assert [from_origin(case, counted) for case in Case] == [3, 13, 60, 60, 60, 10]
    assert [from_mirror(case, counted) for case in Case] == [0, 0, 10, 10, 10, 0]
    assert from_origin(Case.NYDUS, Counted(3)) is None


def measured() -> Measured:
    return Measured(
        ImagePair("registry.test/python:3.9", "registry.test/python:3.9-nydus"),
        (
            CaseResult(Case.OCI, runs(30.0, 28.0, 26.0)),
            CaseResult(Case.NYDUS, runs(5.0, 4.8)),
            CaseResult(Case.MIRROR, runs(5.1)),
            CaseResult(Case.REMOTE, (), "no other peer had it"),
            CaseResult(Case.LOCAL, runs(6.0)),
            CaseResult(Case.CACHE, runs(0.6)),
        ),
    )


def test_a_case_that_was_not_run_says_why_in_the_table_and_has_no_figure_in_the_document() -> None:
    one = measured()
    rows = {row[0]: row for row in figures.rows(one.results)}
    assert rows["hit on a remote peer"] == ("hit on a remote peer", "not run: no other peer had it")
    assert rows["OCI cold"][1:5] == ("3", "26.00 s", "28.00 s", "30.00 s")
    (pair,) = json.loads(json.dumps(figures.body([one]), default=str))
    cases = {case["case"]: case for case in pair["cases"]}
    assert (cases["remote-peer"]["ready_s"], cases["remote-peer"]["runs"]) == (None, [])
    assert cases["remote-peer"]["not_run"] == "no other peer had it"
    assert cases["oci-cold"]["not_run"] == ""
    assert set(cases["remote-peer"]["moved"].values()) == {None}


def test_each_case_tells_its_bytes_by_where_they_came_from() -> None:
    counted = Counted(MB, 10 * MB, 1 * MB, 59 * MB, 2 * MB, 61 * MB)
    one = Measured(ImagePair("", "b:1"), (CaseResult(Case.REMOTE, runs(3.0, counted=counted)),))
    (pair,) = json.loads(json.dumps(figures.body([one]), default=str))
    assert pair["cases"][0]["moved"] == {
        "pulled": MB,
        "nydusd_fetched": 10 * MB,
        "back_to_source": MB,
        "remote_peer": 59 * MB,
        "local_peer": 2 * MB,
        "received": 61 * MB,
    }
    assert figures.rows(one.results)[0][-1] == "1.0/59.0/2.0 MB"
    assert len(figures.rows(one.results)[0]) == len(figures.HEADER)


def test_the_pages_order_is_held_against_the_medians_and_a_difference_is_not_hidden() -> None:
    told = dict(figures.order(measured().results))
    assert told == {
        "OCI cold slower than Nydus cold: 28.00 s, 4.90 s (x 5.71)": True,
        "Nydus cold not faster than hit on the local peer: 4.90 s, 6.00 s (x 0.82)": False,
        "hit on the local peer slower than Nydus cache: 6.00 s, 0.60 s (x 10.00)": True,
    }


def test_the_chart_has_the_pages_arrangement_a_group_for_each_image_and_six_bars_in_its_order() -> None:
    made = chart([measured(), measured()], "python3 -V")
    assert made.groups == ("python:3.9", "python:3.9")
    assert tuple(made.bars) == tuple(Case)
    assert [(bar.p50, bar.min, bar.max) for bar in made.bars[Case.OCI]] == [(28.0, 26.0, 30.0)] * 2
    assert [bar.n for bar in made.bars[Case.REMOTE]] == [0, 0]
