"""The one reader of JSON that came from outside (containerd's content, registries, nydusd, files that others
write), and of figures.

Python's own reader has four faults for such text. It recurses: a text that is nested deeply ends it with an
error that nobody expects. It takes numbers that JSON does not have (NaN, Infinity, 1e999), with which
comparisons are false. It takes a text of any length, and whole numbers of 4,300 digits, which no float can
hold and other programs refuse. For comparison: Go's reader takes 10,000 levels, Rust's serde_json 128.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

CAP = 64 << 20
"""Bytes. The readers of sockets and files have smaller bounds of their own."""
DEPTH = 100
"""Levels of nesting. No document that we know of has more than 20."""
DIGITS = 20
"""Of a whole number: so many has the largest one of 64 bits, which is the largest that others write."""
_MARK = re.compile(rb'\\.|["\[{\]}]', re.DOTALL)
"""No pattern for a whole string: one without an end would be looked through again from each quotation mark in
it.
"""


def json_value(content: bytes | str, cap: int = CAP) -> Any:  # noqa: ANN401 - JSON has no types
    """What the text says. Raises ValueError: it is no JSON, nested deeper than DEPTH, longer than `cap`
    bytes, or holds a number that is none or has more than DIGITS digits.
    """
    raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    if len(raw) > cap:
        raise ValueError(f"is longer than {cap} bytes")
    if raw.count(b"[") + raw.count(b"{") > DEPTH and _depth(raw) > DEPTH:
        raise ValueError(f"is nested deeper than {DEPTH} levels")
    # JSON is UTF-8. Python's reader takes bytes for UTF-16 too, whose letters may hold a quotation mark's
    # byte.
    text = raw.decode(errors="surrogatepass")
    return json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_whole)


def json_object(content: bytes | str, cap: int = CAP) -> dict[str, Any]:
    """The object that the text is. Raises ValueError as `json_value` does, and where it is no object."""
    found = json_value(content, cap)
    if not isinstance(found, dict):
        raise ValueError("is no JSON object")
    return found


def _depth(raw: bytes) -> int:
    """The deepest level; brackets within strings do not count."""
    level = deepest = 0
    quoted = False
    for mark in _MARK.finditer(raw):
        if mark[0] == b'"':
            quoted = not quoted
        elif quoted:
            continue
        elif mark[0] in (b"[", b"{"):
            level += 1
            deepest = max(deepest, level)
        elif mark[0] in (b"]", b"}"):
            level -= 1
    return deepest


def _number(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text[:40]} is no number that JSON has")
    return found


def _whole(text: str) -> int:
    if len(text.removeprefix("-")) > DIGITS:
        raise ValueError(f"{text[:40]} has more than {DIGITS} digits")
    return int(text)


def whole(text: object) -> int | None:
    """The whole number from 0 on that a text is, in ASCII's digits; None where it is none or too long."""
    word = str(text)
    return int(word) if word.isascii() and word.isdigit() and len(word) <= DIGITS else None


def mapping(value: object) -> dict[str, Any]:
    """A member that must be an object; where it is none, one without members."""
    return value if isinstance(value, dict) else {}


# The figures of dfdaemon (Prometheus' exposition format). Whoever listens on its port writes them: each
# counts only where it is one, and no line costs more than its length.

LINE_CAP = 1 << 14
"""Characters; labels hold a task's tag and application."""
_LARGEST = 2.0**53  # what a float counts to without a gap
_FIGURE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


class Sample(NamedTuple):
    """One figure from 0 on; `labels` are as they stand between the braces."""

    name: str
    labels: str
    value: float


def sample(line: str) -> Sample | None:
    """The figure of a line. None: it is a comment, too long, has a time stamp or no counter's value."""
    head, _, value = line.strip().rpartition(" ")
    name, brace, labels = head.partition("{")
    if len(line) > LINE_CAP or (brace and not labels.endswith("}")) or not _FIGURE.fullmatch(value):
        return None
    number = float(value)
    return Sample(name, labels[:-1], number) if number <= _LARGEST else None


def samples(page: str) -> Iterator[Sample]:
    """All figures of a page."""
    yield from filter(None, map(sample, page.split("\n")))


def total(page: str, name: str) -> int:
    """The sum of a counter over all its labels; 0 before its first increment."""
    return int(sum(one.value for one in samples(page) if one.name == name))
