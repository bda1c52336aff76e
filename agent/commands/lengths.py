"""Lengths of time on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from agent.durations import parse_duration


def length(shortest: str, longest: str) -> Callable[[str], int]:
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
