"""What the operator sees: text in colour or not, JSON, progress, errors. Nothing here decides anything.

stdout carries the answer (text, or one JSON document), stderr carries progress, warnings and, with text,
errors. Colour is never the only carrier of a meaning. Texts from outside (journal lines, files that another
user wrote) may hold control characters: every text is cleaned before it reaches the terminal.
"""

from __future__ import annotations

import contextlib
import enum
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TextIO, TypeAlias

from agent import API_VERSION
from agent.catalogue import CATALOGUE
from agent.errors import AgentError, ConfigError, Exit


class Format(enum.StrEnum):
    """Form of the answer on stdout."""

    TEXT = "text"
    JSON = "json"


class Colour(enum.StrEnum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    def wanted(self, stream: TextIO, environment: Mapping[str, str]) -> bool:
        """AUTO: only on a terminal that is not dumb, and not where NO_COLOR says otherwise (no-color.org)."""
        if self is not Colour.AUTO:
            return self is Colour.ALWAYS
        return (
            stream.isatty() and environment.get("TERM", "dumb") != "dumb" and not environment.get("NO_COLOR")
        )


class Tone(enum.Enum):
    """How a piece of text is meant; the value is its SGR code."""

    GOOD = "32"
    WARN = "33"
    BAD = "31"
    STRONG = "1"
    FAINT = "2"


@dataclass(frozen=True, slots=True)
class Toned:
    """A piece of text with a tone."""

    text: str
    tone: Tone


Part: TypeAlias = str | Toned
"""A piece of a line."""


def clean(text: str) -> str:
    """The text with control and formatting characters spelled out, except newline and tab."""
    return "".join(
        char if char in "\n\t" or not unicodedata.category(char).startswith("C") else _spelled(char)
        for char in text
    )


def _spelled(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()


def counted(number: int, noun: str) -> str:
    """ "1 mount", "2 mounts"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _width(part: Part) -> int:
    return len(clean(part.text if isinstance(part, Toned) else part))


@dataclass(frozen=True, slots=True)
class Console:
    """The two streams. `line` and `table` print only with --format text, `emit` only with --format json, so
    that a verb may call both without asking.
    """

    out: TextIO
    err: TextIO
    format: Format = Format.TEXT
    colour_out: bool = False
    colour_err: bool = False

    def line(self, *parts: Part) -> None:
        """One line of the text answer."""
        if self.format is Format.TEXT:
            print(self._join(parts, coloured=self.colour_out), file=self.out, flush=True)

    def table(self, rows: Sequence[Sequence[Part]], *, header: Sequence[str] = (), indent: int = 0) -> None:
        """Left-aligned columns, two spaces apart; the last one is not padded."""
        whole: list[Sequence[Part]] = [[Toned(name, Tone.STRONG) for name in header]] if header else []
        whole += rows
        widths = [
            max(_width(row[at]) for row in whole if at < len(row))
            for at in range(max(map(len, whole), default=0))
        ]
        for row in whole:
            cells: list[Part] = [" " * indent]
            for at, part in enumerate(row):
                last = at == len(row) - 1
                cells += [part] if last else [part, " " * (widths[at] - _width(part) + 2)]
            self.line(*cells)

    def emit(self, kind: str, body: Mapping[str, object]) -> None:
        """The JSON answer: apiVersion, kind and `body`. Call it once."""
        if self.format is Format.JSON:
            self._document(kind, body)

    def progress(self, *parts: Part) -> None:
        """One line about work under way, on stderr. Where nobody listens any more (a terminal that was
        closed, a pipe whose reader has gone), the work goes on: a change or an undo must not be cut in half
        for that.
        """
        with contextlib.suppress(OSError):
            print(self._join(parts, coloured=self.colour_err), file=self.err, flush=True)

    def passing(self, text: str) -> None:
        """What goes on at this moment: on a terminal, one line that the next call replaces ("" removes
        it).
        """
        if self.err.isatty():
            print(f"\r\x1b[K{clean(text)}", end="", file=self.err, flush=True)

    def warn(self, text: str) -> None:
        """A warning, on stderr."""
        self.progress(Toned("warning:", Tone.WARN), f" {text}")

    def error(self, error: AgentError) -> None:
        """An error: text on stderr, or a JSON document of kind Error on stdout."""
        if self.format is Format.JSON:
            self._document("Error", error_body(error))
            return
        for parts in error_lines(error):
            self.progress(*parts)

    def _document(self, kind: str, body: Mapping[str, object]) -> None:
        document = {"apiVersion": API_VERSION, "kind": kind, **body}
        json.dump(document, self.out, indent=2, default=_encoded)  # ASCII: right in every locale and terminal
        print(file=self.out, flush=True)  # so that a full disk is met here, and not at the program's end

    @staticmethod
    def _join(parts: Sequence[Part], *, coloured: bool) -> str:
        texts = []
        for part in parts:
            if isinstance(part, Toned) and coloured:
                texts.append(f"\x1b[{part.tone.value}m{clean(part.text)}\x1b[0m")
            else:
                texts.append(clean(part.text if isinstance(part, Toned) else part))
        return "".join(texts).rstrip(" ")


def _encoded(value: object) -> object:
    """What json does not know: our frozen values."""
    if is_dataclass(value) and not isinstance(value, type):
        # A field that would be a keyword of Python is written with an underscore at its end.
        return {field.name.rstrip("_"): getattr(value, field.name) for field in fields(value)}
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def exit_of(error: AgentError) -> Exit:
    """The exit code that the catalogue gives this error's code."""
    entry = CATALOGUE.get(error.code)
    return entry.exit if entry else Exit.FAILED


def error_lines(error: AgentError, label: str = "error") -> list[tuple[Part, ...]]:
    """An error as text: what failed, cause, evidence, one command to try (else the catalogue's advice)."""
    entry = CATALOGUE.get(error.code)
    lines: list[tuple[Part, ...]] = [(Toned(f"{label}[{error.code}]:", Tone.BAD), f" {error.what}")]
    told = [("cause:", error.cause), *(("seen:", seen) for seen in error.seen)]
    told.append(("try:", error.try_ or (entry.action if entry else "")))
    lines += [(Toned(f"{name:<6}", Tone.STRONG), " ", _hanging(text)) for name, text in told if text]
    return lines


def _hanging(text: str) -> str:
    """Later lines of a text start under its first."""
    return text.rstrip("\n").replace("\n", "\n       ")


def error_body(error: AgentError) -> dict[str, object]:
    """An error as the body of a JSON document."""
    entry = CATALOGUE.get(error.code)
    body: dict[str, object] = {
        "code": error.code,
        "title": entry.title if entry else "",
        "exit": int(exit_of(error)),
        "what": error.what,
        "cause": error.cause,
        "seen": list(error.seen),
        "try": error.try_ or (entry.action if entry else ""),
    }
    if isinstance(error, ConfigError):
        body["problems"] = [asdict(problem) for problem in error.problems]
    return body
