"""What stands in a unit file or a drop-in (systemd.syntax(7))."""

from __future__ import annotations

import shlex
from collections.abc import Iterator


def settings(text: str) -> Iterator[tuple[str, str, str]]:
    """(section, key, value) in order; lines that end in a backslash go on (systemd.syntax(7))."""
    section = ""
    for line in _joined(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def _joined(text: str) -> Iterator[str]:
    held = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        if held or line:
            yield held + line
        held = ""
    if held:
        yield held.strip()


def words(value: str) -> list[str]:
    """A value that is a list, or a command; in quotation marks a word may have spaces."""
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()
