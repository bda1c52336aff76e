"""Durations and sizes as Dragonfly spells them (Rust's humantime and bytesize;

Go's time.ParseDuration is a subset).
"""

from __future__ import annotations

import re

_DURATIONS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3,
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
    "d": 86_400, "day": 86_400, "days": 86_400,
}  # fmt: skip
_DURATION_PART = re.compile(r"([0-9]+)\s*([a-zµ]+)\s*")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?i?b?)", re.I)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def seconds_of(text: str) -> float | None:
    """ "40s", "1h 30m"; None for what is no duration."""
    at, total = 0, 0.0
    text = text.strip()
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None or part[2] not in _DURATIONS:
            return None
        total += int(part[1]) * _DURATIONS[part[2]]
        at = part.end()
    return total if text else None


def bytes_of(text: str) -> int | None:
    """ "50GB" (10^9), "64MiB" (2^20), "4096"; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    unit = found[2].lower().removesuffix("b")
    base = 1024 if unit.endswith("i") else 1000
    return int(float(found[1]) * base ** _POWERS[unit.removesuffix("i")])


def megabytes(count: int) -> str:
    """Bytes in whole megabytes, at least one."""
    return f"{max(count // 10**6, 1)}MB"
