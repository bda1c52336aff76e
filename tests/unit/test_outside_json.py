"""JSON from outside: whatever it holds, its reader gives a value or a ValueError, and neither more."""

from __future__ import annotations

import json
import time

import pytest

from agent.outside_json import DEPTH, json_object, json_value, mapping


@pytest.mark.parametrize(
    "text", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 2_000 + b"1" + b"}" * 2_000, b"[" * 101]
)
def test_a_text_that_is_nested_too_deeply_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"nested deeper than 100 levels"):
        json_value(text)


def test_another_encoding_hides_no_nesting() -> None:
    with pytest.raises(ValueError, match=r"."):
        json_value(('["\u2200",' + "[" * 200_000 + '"').encode("utf-16"))


def test_a_string_without_an_end_costs_no_more_than_its_length() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        json_value(b"[" * 101 + b'"' + rb"\"" * 20_000)
    assert time.process_time() - began < 5  # each quotation mark looked through to the end: 25 s


def test_the_deepest_that_is_taken_can_be_written_again() -> None:
    found = json_value(b"[" * DEPTH + b"]" * DEPTH)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("text", ['["' + "[{" * 500 + '"]', r'["\\"' + "," + '"' + r"\"" + "[" * 500 + '"]'])
def test_brackets_in_a_string_are_no_nesting(text: str) -> None:
    assert len(json_value(text)[-1]) >= 500


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "9" * 5000, "", "{", b"\xff\xfe[", "\x00"]
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_value(text)


@pytest.mark.parametrize(
    "text",
    ["9" * 21, f"[-{'9' * 4300}]", '{"size": ' + "1" * 4299 + "}"],
    ids=("one", "in an array", "in an object"),
)
def test_a_whole_number_longer_than_any_that_programs_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has more than 20 digits"):
        json_value(text)


def test_the_largest_whole_numbers_that_programs_hold_are_taken() -> None:
    assert json_value(f"[{2**64 - 1}, {-(2**63)}]") == [2**64 - 1, -(2**63)]


def test_a_text_that_is_too_long_is_not_read() -> None:
    assert json_value(b'"12345678"', cap=10) == "12345678"
    with pytest.raises(ValueError, match="is longer than 10 bytes"):
        json_value(b'"123456789"', cap=10)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"'])
def test_an_object_is_asked_for_and_nothing_else_taken(text: str) -> None:
    with pytest.raises(ValueError, match="is no JSON object"):
        json_object(text)


def test_a_member_that_must_be_an_object_is_one_or_empty() -> None:
    others: tuple[object, ...] = (None, [], "x", 1)
    assert mapping({"a": 1}) == {"a": 1}
    assert [mapping(one) for one in others] == [{}, {}, {}, {}]
