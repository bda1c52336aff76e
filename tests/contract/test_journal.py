"""Journal: the contract on the fake (on journald itself: tests/contract/node), and a place without
journalctl.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.journal import _DROPPED, UnitJournal
from agent.system.process import Feed
from tests.contract.journal import JournalContract, JournalWorld
from tests.fakes.daemon import FakeJournal


class _FakeWorld(JournalWorld):
    def __init__(self) -> None:
        self.port = self.fake = FakeJournal()

    def write(self, text: str) -> None:
        if self.fake.problem == "":  # what nobody follows is not kept
            self.fake.write(text)

    def flood(self) -> None:
        self.fake.write("one of many")
        self.fake.write("", dropped=41)
        self.fake.write("the first that passes again")

    def kill(self) -> None:
        self.fake.end()


class TestFake(JournalContract):
    @pytest.fixture
    def world(self) -> Iterator[JournalWorld]:
        made = _FakeWorld()
        yield made
        made.port.close()


def test_where_no_journal_is_kept_it_is_said_and_nothing_is_started(tmp_path: Path) -> None:
    journal = UnitJournal("x.service", (str(tmp_path),))
    journal.start()
    assert "no journal is kept" in journal.problem
    assert journal.fileno() == -1
    assert journal.lines() == ()


class TestFeed:
    def test_what_it_writes_is_read_without_waiting(self) -> None:
        feed = Feed(["sh", "-c", "echo first; exec sleep 60"])
        assert select.select([feed.fileno()], [], [], 60)[0]
        assert feed.read(100) == b"first\n"
        assert feed.read(100) is None
        assert feed.end() == -9

    def test_its_end_and_its_complaint_are_seen(self) -> None:
        feed = Feed(["sh", "-c", "echo no >&2; exit 3"])
        while feed.read(100) is None:
            assert select.select([feed.fileno()], [], [], 60)[0]
        assert feed.complaint() == "no"
        assert feed.end() == 3


class TestLines:
    """What journalctl prints in JSON (its own forms; those of a real one are met on the node)."""

    @pytest.fixture
    def written(self) -> Iterator[tuple[UnitJournal, int]]:
        journal = UnitJournal("x.service")
        read, write = os.pipe2(os.O_NONBLOCK)
        journal._feed = _Piped(read)  # type: ignore[assignment]  # a feed without a child
        yield journal, write
        for descriptor in (read, write):
            os.close(descriptor)

    @pytest.mark.parametrize(
        ("message", "text"),
        [
            ("plain", "plain"),
            (list(b"\x1b[1mx\xff"), "\x1b[1mx\ufffd"),
            (None, ""),
            (["two", "values"], ""),
            ([65, 256], ""),
            ([-1], ""),
        ],
    )
    def test_a_message_has_several_forms(
        self, written: tuple[UnitJournal, int], message: object, text: str
    ) -> None:
        journal, write = written
        entry = {"__MONOTONIC_TIMESTAMP": "1500000", "_SYSTEMD_UNIT": "x.service", "MESSAGE": message}
        os.write(write, json.dumps(entry).encode() + b"\n")
        (line,) = journal.lines()
        assert (line.text, line.at, line.dropped) == (text, 1.5, 0)

    def test_a_line_may_come_in_pieces(self, written: tuple[UnitJournal, int]) -> None:
        journal, write = written
        entry = {"__MONOTONIC_TIMESTAMP": "1", "_SYSTEMD_UNIT": "x.service", "MESSAGE": "whole"}
        text = json.dumps(entry).encode() + b"\n"
        os.write(write, text[:20])
        assert journal.lines() == ()
        os.write(write, text[20:])
        assert [line.text for line in journal.lines()] == ["whole"]

    @pytest.mark.parametrize("at", [f'"{"9" * 400}"', '"²"', '"-1"', '"1.5"', '"1_0"', "null", "[]", "}"])
    def test_an_entry_without_a_time_counts_as_dropped(
        self, written: tuple[UnitJournal, int], at: str
    ) -> None:
        journal, write = written
        os.write(write, f'{{"_SYSTEMD_UNIT": "x.service", "__MONOTONIC_TIMESTAMP": {at}}}\n'.encode())
        assert [(line.dropped, line.at) for line in journal.lines()] == [(1, 0.0)]

    @pytest.mark.parametrize("entry", ["{broken", "{}", "[]", '"x"', "7"])
    def test_what_is_no_entry_counts_as_dropped(self, written: tuple[UnitJournal, int], entry: str) -> None:
        journal, write = written
        os.write(write, f"{entry}\n".encode())
        assert [(line.dropped, line.at) for line in journal.lines()] == [(1, 0.0)]

    @pytest.mark.parametrize(
        ("count", "dropped"),
        [("41", 41), ("²", 1), ("9" * 5000, 1), ("-3", 1), ("1_0", 1), (["4", "5"], 1), (7, 7)],
    )
    def test_how_many_lines_were_dropped_is_told_by_a_number_alone(
        self, written: tuple[UnitJournal, int], count: object, dropped: int
    ) -> None:
        journal, write = written
        entry = {"__MONOTONIC_TIMESTAMP": "1", "MESSAGE_ID": _DROPPED, "N_DROPPED": count}
        os.write(write, json.dumps(entry).encode() + b"\n")
        assert [line.dropped for line in journal.lines()] == [dropped]

    def test_others_entries_about_the_unit_are_passed_over(self, written: tuple[UnitJournal, int]) -> None:
        journal, write = written
        entry = {"__MONOTONIC_TIMESTAMP": "1", "_SYSTEMD_UNIT": "init.scope", "MESSAGE": "Started x.service"}
        os.write(write, json.dumps(entry).encode() + b"\n")
        assert journal.lines() == ()


class _Piped:
    """A feed whose writer is the test."""

    def __init__(self, read: int) -> None:
        self._read = read

    def fileno(self) -> int:
        return self._read

    def read(self, count: int) -> bytes | None:
        try:
            return os.read(self._read, count)
        except BlockingIOError:
            return None

    def complaint(self) -> str:
        return ""
