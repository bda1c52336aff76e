"""dfdaemon's figures, as root and the daemon read them: whoever has its port writes what he likes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from agent.commands.bench.mirror import Traffic, traffic_of
from agent.daemon.symptoms import Tally
from agent.documents.status import CheckState
from agent.dragonfly.live import report
from agent.outside_json import total
from tests.fakes.http import answer
from tests.unit.proved_node import CONFIG, proved
from tests.unit.test_dragonfly_live import WELL

FAILURES = "dragonfly_client_proxy_request_failure_total"
LIMITED = "dragonfly_client_proxy_request_rate_limited_total"
TRAFFIC = 'dragonfly_client_download_traffic{type="BACK_TO_SOURCE"}'
LIES = (
    "nan", "inf", "1e999", "-1", "1_000", "\N{ARABIC-INDIC DIGIT ONE}", "0x1", "1.2.3", "1e", "", "9" * 5000,
    "1 1700000000", "1" + "0" * 16, "\N{LINE SEPARATOR}1",
)  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_figure_that_is_none_counts_as_none_for_the_daemon_and_for_root(lie: str) -> None:
    page = "".join(
        f"{name} {lie}\n{name} 4\n" for name in (FAILURES, f'{FAILURES}{{a="b"}}', LIMITED, TRAFFIC)
    )
    tally = Tally()
    tally.take(page.encode())
    assert (tally.end()[FAILURES], tally.end()[LIMITED]) == (8, 4)
    assert traffic_of(page) == Traffic(source=4)
    node = proved()
    node.node.http.on(CONFIG.mirror.metrics_url, answer(200, page.encode()))
    assert (
        node.proof().checks[9].cause
        == "dragonfly_client_download_traffic grew by 0 KiB, nydusd fetched 5.0 MiB"
    )
    assert "4 requests" in str(report(replace(WELL, metrics=page), CONFIG))


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("", 0),
        ("# HELP x x\nx nonsense\n", 0),
        ('x{type="A"} 3\nx{type="B"} 4e3\n', 4003),
        ("x_other 9\nx 2\n", 2),
    ],
)
def test_a_counter_is_the_sum_over_all_its_labels(text: str, counted: int) -> None:
    assert total(text, "x") == counted


@pytest.mark.parametrize("line", ["x{" * 500_000, FAILURES + "{" * 1_000_000, TRAFFIC[:-1] + "b" * 1_000_000])
def test_a_line_without_an_end_costs_no_more_than_its_length(line: str) -> None:
    tally, began = Tally(), time.process_time()
    for at in range(0, len(line), 4096):
        tally.take(line[at : at + 4096].encode())
    tally.take(b"} 7\n")
    assert set(tally.end().values()) == {0}
    assert traffic_of(f"{line}}} 7") == Traffic()
    report(replace(WELL, metrics=line), CONFIG)
    assert time.process_time() - began < 2


def test_a_page_of_lies_undoes_no_proof() -> None:
    node = proved()
    node.node.http.on(CONFIG.mirror.metrics_url, answer(200, f"{TRAFFIC} 1e999".encode()))
    assert [check.state for check in node.proof().checks[:9]] == [CheckState.OK] * 9
