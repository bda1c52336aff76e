"""Typed getters: from TOML's values to the model's, each complaint with the key path that it belongs to.

The model's dataclasses drive them, so that a setting is declared once (model.py) and is then known to the
parser, to `check --show`, to agent.toml(5) and to the commented example.
"""

from __future__ import annotations

import difflib
import enum
import functools
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from agent.config.forms import Form
from agent.config.model import Config
from agent.errors import Problem

VERSION_KEY = "version"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the model: its dotted key, the type of its value, and the metadata that model.py gave
    it.
    """

    key: str
    kind: type  # int, bool, str, an enum, or a dataclass (list of tables)
    many: bool
    default: object  # MISSING where it must be given
    doc: str
    low: int | None = None
    high: int | None = None
    form: Form | None = None

    @property
    def is_tables(self) -> bool:
        """A list of tables, such as [[registries.hosts]]."""
        return is_dataclass(self.kind)

    @property
    def choices(self) -> tuple[str, ...]:
        """What an enum may be; empty for other types."""
        return tuple(item.value for item in self.kind) if issubclass(self.kind, enum.Enum) else ()


@functools.cache
def _types(model: type) -> dict[str, Any]:
    """The type of each field of a dataclass of the model."""
    return typing.get_type_hints(model)


def settings(model: type = Config, prefix: str = "") -> Iterator[Setting]:
    """Every setting below a dataclass of the model, tables first to last, as dotted keys."""
    hints = _types(model)
    for field in fields(model):
        kind, key = hints[field.name], f"{prefix}{field.name}"
        if is_dataclass(kind) and isinstance(kind, type):
            yield from settings(kind, f"{key}.")
            continue
        many = typing.get_origin(kind) is tuple
        item = typing.get_args(kind)[0] if many else kind
        meta = field.metadata
        yield Setting(key, item, many, field.default, meta["doc"], meta["low"], meta["high"], meta["form"])


def tables(model: type = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, meaning) of every table below a dataclass of the model."""
    hints = _types(model)
    for field in fields(model):
        if is_dataclass(hints[field.name]):
            yield f"{prefix}{field.name}", field.metadata["doc"]
            yield from tables(hints[field.name], f"{prefix}{field.name}.")


def as_toml(value: object) -> str:
    """A value as one would write it in TOML, shortened to 60 characters for messages."""
    text = spell(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def spell(value: object) -> str:
    """A value of TOML or of the model in TOML's spelling."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(spell, value))}]"
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{key} = {spell(item)}" for key, item in value.items()) + " }"
            if value
            else "{}"
        )
    return json.dumps(str(value), ensure_ascii=False) if isinstance(value, str) else str(value)


class Complaints:
    """Collects what is wrong with one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, key: str, value: object, reason: str, action: str) -> None:
        """Note a problem; `value` as TOML gave it, None for "there is none"."""
        written = "" if value is None else as_toml(value)
        self.problems.append(Problem(self.file, key, written, reason, action))


class _WrongError(Exception):
    """A value cannot be taken; caught in this module."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action


_TYPE_NAMES: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number",
                                str: "a text",
                                list: "a list", dict: "a table"}  # fmt: skip


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), "a date or time")


def _scalar(setting: Setting, value: object) -> object:
    """One value, or _WrongError."""
    if setting.kind is bool:
        return _boolean(value)
    if setting.kind is int:
        return _integer(setting, value)
    if not isinstance(value, str):
        raise _WrongError(f"must be a text, not {_type_name(value)}", f'write it as "{value}"')
    if issubclass(setting.kind, enum.Enum):
        return _choice(setting, value)
    complaint = setting.form.complaint(value) if setting.form else None
    if complaint:
        raise _WrongError(*complaint)
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _WrongError(
        f"must be true or false, not {_type_name(value)}", "write true or false, without quotes"
    )


def _integer(setting: Setting, value: object) -> int:
    low, high = setting.low, setting.high
    if isinstance(value, bool) or not isinstance(value, int):
        example = "" if setting.default is MISSING else f", such as {setting.default}"
        raise _WrongError(
            f"must be a whole number, not {_type_name(value)}", f"write a number without quotes{example}"
        )
    if (low is not None and value < low) or (high is not None and value > high):
        raise _WrongError("is out of range", f"write a number from {low} to {high}")
    return value


def _choice(setting: Setting, value: str) -> enum.Enum:
    for item in setting.kind:  # type: ignore[attr-defined] # the caller has seen that it is an enum
        if item.value == value:
            return typing.cast("enum.Enum", item)
    near = _near(value.lower(), setting.choices)
    allowed = ", ".join(f'"{choice}"' for choice in setting.choices)
    raise _WrongError(
        "is not one of the choices", f'did you mean "{near[0]}"?' if near else f"write one of {allowed}"
    )


def read_table(
    model: type, table: Mapping[str, object], complaints: Complaints, prefix: str = ""
) -> dict[str, object]:
    """Everything in a TOML table that is right, as dotted key -> typed value; the rest goes to
    `complaints`.
    """
    known = {setting.key: setting for setting in settings(model, prefix)}
    subtables = {name for name, _ in tables(model, prefix)}
    return _read(table, prefix, known, subtables, complaints)


def _read(
    table: Mapping[str, object],
    prefix: str,
    known: dict[str, Setting],
    subtables: set[str],
    complaints: Complaints,
) -> dict[str, object]:
    right: dict[str, object] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in subtables:
            if isinstance(value, Mapping):
                right |= _read(value, f"{key}.", known, subtables, complaints)
            else:
                complaints.add(key, value, f"must be a table, not {_type_name(value)}", f"write [{key}]")
        elif key in known:
            right |= _read_setting(known[key], value, complaints)
        else:
            complaints.add(key, value, "unknown key", _suggestion(key, prefix, [*known, *subtables]))
    return right


def _read_setting(setting: Setting, value: object, complaints: Complaints) -> dict[str, object]:
    """{key: value} where the value is right, else {}."""
    if not setting.many:
        item = _take(setting, setting.key, value, complaints)
        return {} if item is None else {setting.key: item}
    if not isinstance(value, list):
        hint = f"write [[{setting.key}]]" if setting.is_tables else f"write [{as_toml(value)}]"
        complaints.add(setting.key, value, f"must be a list, not {_type_name(value)}", hint)
        return {}
    items = [_take(setting, f"{setting.key}[{index}]", item, complaints) for index, item in enumerate(value)]
    return {} if None in items else {setting.key: tuple(items)}


def _take(setting: Setting, key: str, value: object, complaints: Complaints) -> object | None:
    """The typed value of one setting or list item; None where it is wrong (no setting can be None)."""
    if setting.is_tables:
        return _take_table(setting, key, value, complaints)
    try:
        return _scalar(setting, value)
    except _WrongError as error:
        complaints.add(key, value, error.reason, error.action)
        return None


def _take_table(setting: Setting, key: str, value: object, complaints: Complaints) -> object | None:
    if not isinstance(value, Mapping):
        complaints.add(key, value, f"must be a table, not {_type_name(value)}", f"write [[{setting.key}]]")
        return None
    before = len(complaints.problems)
    right = read_table(setting.kind, value, complaints, f"{key}.")
    for field in settings(setting.kind):
        if field.default is MISSING and field.key not in value:
            complaints.add(f"{key}.{field.key}", None, "is missing", f"add it: {field.doc}")
    return build(setting.kind, right, f"{key}.") if len(complaints.problems) == before else None


def build(model: type, values: Mapping[str, object], prefix: str = "") -> object:
    """A dataclass of the model from dotted keys; what is not named keeps its default."""
    hints = _types(model)
    given: dict[str, object] = {}
    for field in fields(model):
        key, kind = f"{prefix}{field.name}", hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            given[field.name] = build(kind, values, f"{key}.")
        elif key in values:
            given[field.name] = values[key]
    return model(**given)


def _suggestion(key: str, prefix: str, known: list[str]) -> str:
    """What an unknown key may have been meant to be: a neighbour's name, or the same name in another
    table.
    """
    name = key.removeprefix(prefix)
    here = [
        item.removeprefix(prefix)
        for item in known
        if item.startswith(prefix) and item.count(".") == key.count(".")
    ]
    if not prefix:
        here.append(VERSION_KEY)
    near = [f"{prefix}{item}" for item in _near(name, here, 0.7)]
    elsewhere = [item for item in known if item.rpartition(".")[2] == name]
    far = _near(key, known, 0.8)
    for meant in (*near, *elsewhere, *far):
        return f"did you mean {meant}?"
    return f"remove it; known here: {', '.join(sorted(here))}"


def _near(word: str, known: Sequence[str], cutoff: float = 0.6) -> list[str]:
    """The one that was meant, perhaps."""
    return difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
