"""The follower of nydusd's lines, and of the mirror's counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from agent.daemon.http_client import parse_url
from agent.daemon.symptoms import CounterSymptoms, JournalSymptoms, Tally, growth, near
from agent.daemon.tasks import task_group
from agent.health.evidence import Symptom, SymptomKind, SymptomsUnknown
from tests.fakes.daemon import FakeJournal
from tests.fakes.event_loop import daemons_tasks, until

REFUSED = 'Read from backend failed: Registry(Request(ErrorWithMsg(""))), retry count 3'
FALLBACK = "Request proxy server failed, fallback to original server"
Told: TypeAlias = "list[Symptom | SymptomsUnknown]"


class Followed:
    def __init__(self) -> None:
        self.journal = FakeJournal()
        self.told: Told = []
        self.fenced = False
        self.readers = 1
        self.failed_behind = 0
        self.symptoms = self.follower()

    def follower(self) -> JournalSymptoms:
        return JournalSymptoms(
            self.journal, self.told.append, lambda: self.fenced, self._failed, lambda: self.readers
        )

    def _failed(self) -> None:
        self.failed_behind += 1

    @property
    def kinds(self) -> list[SymptomKind]:
        return [event.kind for event in self.told if isinstance(event, Symptom)]

    @property
    def unknown(self) -> list[str]:
        return [event.reason for event in self.told if isinstance(event, SymptomsUnknown)]


@asynccontextmanager
async def running(made: Followed, follower: JournalSymptoms | None = None) -> AsyncIterator[None]:
    """The follower runs inside."""
    async with task_group() as tasks:
        tasks.create_task((follower or made.symptoms).run(), name="follower")
        await asyncio.sleep(0)
        yield
    assert daemons_tasks() == []


@asynccontextmanager
async def following() -> AsyncIterator[Followed]:
    made = Followed()
    async with running(made):
        assert made.journal.fileno() != -1
        yield made
    made.journal.close()


async def test_a_symptom_is_told_at_once_with_the_time_of_its_line() -> None:
    async with following() as made:
        await until(lambda: made.unknown == [""])
        at = time.monotonic()
        made.journal.write(REFUSED, at=at)
        await until(lambda: bool(made.kinds))
        assert time.monotonic() - at < 0.1
        assert made.told[-1] == Symptom(
            SymptomKind.STATUS, "nydusd: a read was answered with an error status", at
        )


async def test_while_fenced_reads_fall_back_and_that_is_no_symptom() -> None:
    async with following() as made:
        made.fenced = True
        made.journal.write(FALLBACK)
        made.journal.write(REFUSED)
        await until(lambda: bool(made.kinds))
        assert made.failed_behind == 1
        made.fenced = False
        made.journal.write(FALLBACK)
        await until(lambda: len(made.kinds) == 2)
        assert made.kinds == [SymptomKind.STATUS, SymptomKind.FALLBACK]


async def test_reads_that_go_around_are_many_where_nothing_may_be_fenced_and_few_are_told() -> None:
    async with following() as made:
        for _ in range(50):
            made.journal.write(FALLBACK)
            made.journal.write(REFUSED)
        await until(lambda: len(made.kinds) >= 53)
        await asyncio.sleep(0.05)
        assert made.kinds.count(SymptomKind.FALLBACK) == 3
        assert made.kinds.count(SymptomKind.STATUS) == 50


async def test_dropped_lines_mean_unknown_for_a_while() -> None:
    async with following() as made:
        made.journal.write("", dropped=41)
        await until(lambda: made.unknown == ["", "the journal dropped 41 lines of nydusd's"])
        made.symptoms.check()
        assert made.unknown[-1] != ""
        made.symptoms._unknown_until = 0.0  # the while has passed
        made.symptoms.check()
        assert made.unknown[-1] == ""


async def test_a_reader_that_ends_means_unknown_until_it_is_begun_anew() -> None:
    async with following() as made:
        made.journal.end()
        await until(lambda: made.unknown[-1] == "journalctl has ended")
        await until(lambda: made.journal.starts == 2)
        await until(lambda: made.unknown[-1] == "")
        made.journal.write(REFUSED)
        await until(lambda: bool(made.kinds))


async def test_a_journal_that_cannot_be_followed_is_tried_again_and_again() -> None:
    made = Followed()
    made.journal.refuses = "no journal is kept"
    async with running(made):
        await until(lambda: made.journal.starts == 2)
    assert made.unknown == ["no journal is kept"]


async def test_another_session_goes_on_with_the_same_reader() -> None:
    made = Followed()
    async with running(made):
        made.symptoms.check()
    async with running(made, made.follower()):
        assert made.journal.starts == 1
        assert made.unknown == ["", ""]  # the new session's machine does not know yet
        made.journal.write(REFUSED)
        await until(lambda: bool(made.kinds))
    made.journal.close()


PAGE = b"""\
# HELP dragonfly_client_proxy_request_failure_total Counter of the number of failed of the proxy request.
# TYPE dragonfly_client_proxy_request_failure_total counter
dragonfly_client_proxy_request_failure_total 3
dragonfly_client_proxy_request_failure_total_other 70
dragonfly_client_download_task_failure_total{app="",priority="6",tag="a b",type="0"} 2
dragonfly_client_download_task_failure_total{app="",priority="3",tag="",type="1"} 5
dragonfly_client_download_task_total{app=""} 900
"""


class TestCounters:
    @pytest.mark.parametrize("size", [1, 7, 64, 10_000])
    def test_a_page_may_come_in_pieces_of_any_size(self, size: int) -> None:
        tally = Tally()
        for at in range(0, len(PAGE), size):
            tally.take(PAGE[at : at + size])
        assert dict(tally.end()) == {
            "dragonfly_client_proxy_request_failure_total": 3.0,
            "dragonfly_client_proxy_request_rate_limited_total": 0.0,
            "dragonfly_client_download_task_failure_total": 7.0,
        }

    def test_a_counter_that_is_smaller_was_begun_anew(self) -> None:
        assert growth({"a": 5.0, "b": 5.0, "c": 0.0}, {"a": 7.0, "b": 2.0, "c": 0.0}) == {"a": 2.0, "b": 2.0}
        assert growth({"a": 5.0}, {"a": 0.0}) == {}

    async def test_growth_is_a_symptom_and_what_the_fence_did_is_not(self) -> None:
        state = {"page": PAGE, "status": b"200 OK", "counts": b"yes"}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (
                state["status"], len(state["page"]), state["page"]))  # fmt: skip
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = parse_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics")
            told: list[Symptom] = []
            counters = CounterSymptoms(url, told.append, lambda: bool(state["counts"]), lambda: False)
            await counters.check()
            await counters.check()
            assert told == []
            state["page"] = PAGE.replace(b"failure_total 3", b"failure_total 4")
            await counters.check()
            assert [event.kind for event in told] == [SymptomKind.COUNTER]
            assert told[0].detail == "the mirror counts proxy_request_failure_total +1"
            state |= {"page": PAGE.replace(b"failure_total 3", b"failure_total 9"), "counts": b""}
            await counters.check()
            state |= {"status": b"404 Not Found", "counts": b"yes", "page": b"gone"}
            await counters.check()
            state |= {"status": b"200 OK", "page": PAGE.replace(b"failure_total 3", b"failure_total 9")}
            await counters.check()
            assert len(told) == 1
        await counters.check()
        assert len(told) == 1

    @pytest.mark.parametrize(
        ("metrics", "proxy", "is_near"),
        [
            ("http://127.0.0.1:4002", "http://127.0.0.1:4001", True),
            ("http://[::1]:4002", "http://127.0.0.1:4001", True),
            ("http://192.0.2.7:4002", "http://192.0.2.7:4001", True),
            ("http://127.0.0.1:4002", "http://192.0.2.7:4001", False),
        ],
    )
    def test_only_the_mirrors_own_page_counts(self, metrics: str, proxy: str, is_near: bool) -> None:
        assert near(parse_url(metrics), parse_url(proxy)) is is_near
