"""Lengths of time as people write and read them. Pure."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds of "30s", "10m", "2h", "1d" or a sum such as "1h30m". Raises ValueError."""
    if not re.fullmatch(r"(?:[0-9]{1,6}[smhd])+", text):
        raise ValueError(f"{text!r} is not a duration such as 30s, 10m, 2h or 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text))


def in_words(seconds: float) -> str:
    """ "12 s", "3 min 5 s", "2 h 3 min", "4 d 1 h": the two largest units that are not zero."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def duration_option(shortest: str, longest: str) -> Callable[[str], int]:
    """Seconds from `shortest` to `longest`, such as "5s" and "1h", for argparse."""
    low, high = parse_duration(shortest), parse_duration(longest)

    def parsed(text: str) -> int:
        """Raises argparse.ArgumentTypeError."""
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if not low <= seconds <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {shortest} and {longest}")
        return seconds

    return parsed
