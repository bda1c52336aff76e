"""The one reader of JSON that came from outside: containerd's content, registries, nydusd, files that others
write.

Python's own reader has four faults for such text. It recurses: a text that is nested deeply ends it with an
error that nobody expects. It takes numbers that JSON does not have (NaN, Infinity, 1e999), with which
comparisons are false. It takes a text of any length, and whole numbers of 4,300 digits, which no float can
hold and other programs refuse. For comparison: Go's reader takes 10,000 levels, Rust's serde_json 128.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

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


def mapping(value: object) -> dict[str, Any]:
    """A member that must be an object; where it is none, one without members."""
    return value if isinstance(value, dict) else {}
