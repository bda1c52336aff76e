"""Pages as a newcomer follows them: the commands of a page's console blocks, typed into a node, and what they
print.

A block begins with ```console. Its lines with `# ` in front are root's commands, with all lines of a
here-document or after a backslash; what follows is what the command prints. `…` stands for anything within a
line, a line of `…` alone for any lines. Words after `console` in the fence: `download` (it fetches from the
internet: not typed), `exit=N` (the last command ends so).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_HERE = re.compile(r"<<-?'?(\w+)'?")


@dataclass
class Typed:
    """One command with what the page says that it prints; `line` is where it stands."""

    line: int
    command: str
    printed: list[str] = field(default_factory=list)
    exit: int = 0

    def agrees(self, output: str) -> bool:
        """Whether the output is what the page shows. A page that shows nothing says nothing."""
        return (
            not self.printed or re.fullmatch(_pattern(self.printed), output.rstrip("\n") + "\n") is not None
        )


def commands(page: str) -> Iterator[Typed]:
    """What a page tells to type, in its order, without the downloads.

    Raises ValueError for a block that has no command, or begins with output.
    """
    for first, words, lines in _blocks(page):
        if "download" in words:
            continue
        typed = list(_typed(first, lines))
        for word in words:
            if word.startswith("exit="):
                typed[-1].exit = int(word.removeprefix("exit="))
        yield from typed


def _blocks(page: str) -> Iterator[tuple[int, list[str], list[str]]]:
    lines = page.splitlines()
    start, words = 0, [""]
    for number, line in enumerate(lines, 1):
        if line.startswith("```") and start:
            if words[0] == "console":
                yield start, words[1:], lines[start : number - 1]
            start = 0
        elif line.startswith("```"):
            start, words = number, line.removeprefix("```").split() or [""]


def _typed(first: int, lines: list[str]) -> Iterator[Typed]:
    rest = iter(enumerate(lines, first + 1))
    last: Typed | None = None
    for number, line in rest:
        if line.startswith("# "):
            if last is not None:
                yield last
            last = Typed(number, _whole(line[2:], rest))
        elif last is None:
            raise ValueError(f"line {number}: a console block begins with what it prints: {line}")
        else:
            last.printed.append(line)
    if last is None:
        raise ValueError(f"line {first}: a console block without a command")
    yield last


def _whole(command: str, rest: Iterator[tuple[int, str]]) -> str:
    found = _HERE.search(command)
    end = found.group(1) if found else ""
    while command.endswith("\\") or end:
        _, line = next(rest)
        command += f"\n{line}"
        if line == end:
            break
    return command


def _pattern(printed: list[str]) -> str:
    return "".join(
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in printed
    )
