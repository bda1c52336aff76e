"""Reading a strict TOML table: each value in its form or a complaint, and nothing that nobody knows. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from agent.config.fields import Complaints

_Choice = TypeVar("_Choice", bound=enum.StrEnum)
_NO_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)


class Table:
    """One table. Wrong values come back as empty ones, and are in `complaints`: whoever reads must look there last."""

    def __init__(self, values: Mapping[str, object], key: str, complaints: Complaints, name: str = "") -> None:
        self.name = name
        """The key of this table in the one around it."""
        self._values = values
        self._key = key
        self._complaints = complaints
        self._wrong: set[str] = set()

    def complain(self, name: str, reason: str, action: str) -> None:
        """Note a problem with one value of this table."""
        self._wrong.add(name)
        self._complaints.add(self._path(name), self._values.get(name), reason, action)

    def is_wrong(self, *names: str) -> bool:
        """Whether one of these values was complained of."""
        return not self._wrong.isdisjoint(names)

    def text(self, name: str, form: re.Pattern[str], example: str) -> str:
        """A text that `form` matches as a whole."""
        value = self._values.get(name)
        if isinstance(value, str) and form.fullmatch(value):
            return value
        reason = "has not the right form" if isinstance(value, str) else self._absent_or(name, "must be a text")
        self.complain(name, reason, f"write {example}")
        return ""

    def number(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.complain(name, self._absent_or(name, "is not a number in range"), f"write a number from {low} to {high}")
        return low

    def moment(self, name: str) -> datetime:
        """A date with time and offset, as UTC."""
        value = self._values.get(name)
        if isinstance(value, datetime) and value.tzinfo is not None:
            try:
                return value.astimezone(UTC)
            except OverflowError:  # in the years 1 and 9999
                pass
        self.complain(name, self._absent_or(name, "is not a date with time and offset"), "write 2026-11-27T17:40:00Z")
        return _NO_MOMENT

    def choice(self, name: str, kind: type[_Choice], allowed: Sequence[_Choice] = ()) -> _Choice | None:
        """One of an enum's values, of those that are allowed (all where none are named)."""
        choices = {item.value: item for item in allowed or tuple(kind)}
        value = self._values.get(name)
        if isinstance(value, str) and value in choices:
            return choices[value]
        words = ", ".join(f'"{choice}"' for choice in choices)
        self.complain(name, self._absent_or(name, "is not one of the choices"), f"write one of {words}")
        return None

    def tables(self, name: str, cap: int, *, optional: bool = False) -> list[Table]:
        """A list of at most `cap` tables, such as [[artifact]]."""
        value = self._values.get(name, [] if optional else None)
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            self.complain(name, self._absent_or(name, "must be a list of tables"), f"write [[{self._path(name)}]]")
            return []
        if len(value) > cap:
            self.complain(name, f"has more than {cap} entries", "leave out what is not needed")
            return []
        return [Table(item, f"{self._path(name)}[{index}]", self._complaints) for index, item in enumerate(value)]

    def named(self, name: str, form: re.Pattern[str], reserved: frozenset[str], cap: int) -> list[Table]:
        """The tables in a table whose keys are names that `form` matches: at least one, at most `cap`."""
        value = self._values.get(name)
        if not isinstance(value, Mapping) or not 0 < len(value) <= cap:
            self.complain(name, self._absent_or(name, f"must be a table with 1 to {cap} entries"),
                          f"write [{self._path(name)}]")  # fmt: skip
            return []
        inner = Table(value, self._path(name), self._complaints)
        found = [item for key in value if (item := inner._named(key, form, reserved)) is not None]
        if len(found) < len(value):
            self._wrong.add(name)
        return found

    def _named(self, key: str, form: re.Pattern[str], reserved: frozenset[str]) -> Table | None:
        value = self._values[key]
        if not form.fullmatch(key) or key in reserved:
            self.complain(key, "cannot be the name of a program", "write the plain name of a file in the archive")
            return None
        if not isinstance(value, Mapping):
            self.complain(key, "must be a table", 'write { size = 1, sha256 = "…" }')
            return None
        table = Table(value, self._path(key), self._complaints, key)
        table.end("size", "sha256")
        return table

    def end(self, *known: str) -> None:
        """Complain of every key that is not known."""
        for name in self._values:
            if name not in known:
                import difflib  # for a lock that is wrong

                near = difflib.get_close_matches(name, known, n=1)
                self.complain(name, "unknown key", f"did you mean {near[0]}?" if near else "remove it")

    def _path(self, name: str) -> str:
        plain = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else repr(name)
        return f"{self._key}.{plain}" if self._key else plain

    def _absent_or(self, name: str, reason: str) -> str:
        return reason if name in self._values else "is missing"
