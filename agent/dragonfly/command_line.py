"""The command line with which a dfdaemon was started."""

from __future__ import annotations

from collections.abc import Sequence


def option_of(argv: Sequence[str], *names: str) -> str | None:
    """The value of the first option with one of these names, `--name value` or `--name=value`; None: there is none."""
    for word, after in zip(argv, [*argv[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else after
    return None
