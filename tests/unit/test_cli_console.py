"""What reaches the operator's eyes: errors with a way out, colour, clean terminals, aligned columns, ages in
words.
"""

from __future__ import annotations

import ast
import errno
import io
import os
import re

import pytest

from agent import catalogue
from agent.catalogue import CATALOGUE
from agent.console import Colour, Console, Format, Tone, Toned, clean, error_lines, exit_of
from agent.durations import in_words, parse_duration
from agent.errors import AgentError, Exit
from tests.lint.source import modules


def test_the_catalogue_has_each_code_that_is_raised_and_no_other() -> None:
    raised = set[str]()
    for module in modules("agent"):
        if not module.name.startswith("agent.catalogue"):
            raised.update(
                node.value
                for node in ast.walk(module.tree)
                if isinstance(node, ast.Constant) and re.fullmatch(r"NNA\d{4}", str(node.value))
            )
    assert raised == set(CATALOGUE)
    assert len(CATALOGUE) <= 90


def test_every_code_of_the_catalogue_has_its_words_and_one_place() -> None:
    assert len(catalogue._ENTRIES) == len(CATALOGUE)
    for code, entry in CATALOGUE.items():
        assert code == entry.code
        assert len(code) == 7
        assert code.startswith("NNA")
        assert entry.title, code
        assert entry.meaning.endswith("."), code
        assert entry.action, code
        assert entry.exit is not Exit.OK, code


def test_exit_codes_are_the_ones_that_were_promised() -> None:
    assert {code.name: int(code) for code in Exit} == {
        "OK": 0, "FAILED": 1, "USAGE": 2, "NOT_AS_WANTED": 3, "UNKNOWN": 4, "LOCKED": 75,
    }  # fmt: skip
    assert all(code.meaning for code in Exit)


def plain(error: AgentError) -> list[str]:
    return [
        "".join(part.text if isinstance(part, Toned) else part for part in line)
        for line in error_lines(error)
    ]


def test_an_error_tells_what_why_evidence_and_what_to_try() -> None:
    error = AgentError(
        "NNA1001", "apply failed", cause="one\ntwo", seen=("a", "b"), try_="nydus-agent doctor"
    )
    assert plain(error) == [
        "error[NNA1001]: apply failed",
        "cause: one\n       two",
        "seen:  a",
        "seen:  b",
        "try:   nydus-agent doctor",
    ]
    assert plain(AgentError("NNA1001", "x")) == ["error[NNA1001]: x", "try:   Run it with sudo."]
    assert exit_of(AgentError("NNA9999", "x")) is Exit.FAILED


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("colour", "stream", "environment", "wanted"),
    [
        (Colour.AUTO, Terminal(), {"TERM": "xterm"}, True),
        (Colour.AUTO, Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Colour.AUTO, Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Colour.AUTO, Terminal(), {"TERM": "dumb"}, False),
        (Colour.AUTO, Terminal(), {}, False),
        (Colour.AUTO, io.StringIO(), {"TERM": "xterm"}, False),
        (Colour.ALWAYS, io.StringIO(), {"NO_COLOR": "1"}, True),
        (Colour.NEVER, Terminal(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_only_where_it_is_wanted(
    colour: Colour, stream: io.StringIO, environment: dict[str, str], wanted: bool
) -> None:
    assert colour.wanted(stream, environment) is wanted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\x00", "a\\rb\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("größe ✔", "größe ✔"),
    ],
)
def test_a_text_from_outside_cannot_drive_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_columns_are_aligned_with_colour() -> None:
    out = io.StringIO()
    console = Console(out, io.StringIO())
    console.table(
        [("a", Toned("ok", Tone.GOOD), "x"), ("word", "failed", "y"), ("b",)],
        header=("h", "i", "j"),
        indent=2,
    )
    assert out.getvalue() == "  h     i       j\n  a     ok      x\n  word  failed  y\n  b\n"


def test_text_and_json_never_mix() -> None:
    for form, expected in (
        (Format.TEXT, "line\n"),
        (Format.JSON, '{\n  "apiVersion": "nydus-agent/v1",\n  "kind": "K"\n}\n'),
    ):
        out = io.StringIO()
        console = Console(out, io.StringIO(), form)
        console.line("line")
        console.progress("step 1")
        console.emit("K", {})
        assert out.getvalue() == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("0s", 0)]
)
def test_durations_are_written_as_people_do(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "2 h", "-2h", "2.5h", "2w", "9999999s", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (185, "3 min 5 s"), (3600, "1 h"),
        (7380, "2 h 3 min"), (3605, "1 h"), (90000, "1 d 1 h"), (86400 * 12 + 60, "12 d"),
    ],
)  # fmt: skip
def test_ages_are_told_in_two_units(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_what_goes_on_is_one_line_that_the_next_replaces_and_only_on_a_terminal() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        console = Console(io.StringIO(), stream)
        console.passing("waiting\x1b[2J")
        console.passing("")
    assert terminal.getvalue() == "\r\x1b[Kwaiting\\x1b[2J\r\x1b[K"
    assert pipe.getvalue() == ""


class _Closed(io.StringIO):
    """A terminal that was closed, or a pipe whose reader has gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, _text: str, /) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_work_goes_on_where_nobody_listens_to_its_progress_any_more(number: int) -> None:
    out = io.StringIO()
    console = Console(out, _Closed(number))
    console.progress("[1/3] half of it is done")
    console.warn("something")
    console.line("done")
    assert out.getvalue() == "done\n"
