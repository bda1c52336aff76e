"""Typed getters for JSON that others wrote: a value of another type than expected counts as not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

JsonObject: TypeAlias = Mapping[str, object]
"""A JSON object of which nothing is known yet."""


def text(data: JsonObject, key: str, default: str = "") -> str:
    """A text, shortened to 1000 characters."""
    value = data.get(key)
    return value[:1000] if isinstance(value, str) else default


def number(data: JsonObject, key: str) -> float | None:
    """A finite number; a bool is none."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return None
    return float(value)


def whole(data: JsonObject, key: str, default: int = 0) -> int:
    """A whole number."""
    value = number(data, key)
    return default if value is None else int(value)


def truth(data: JsonObject, key: str) -> bool | None:
    """True, False, or None for "not known"."""
    value = data.get(key)
    return value if isinstance(value, bool) else None


def table(data: JsonObject, key: str) -> JsonObject:
    """A nested object; empty where there is none."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def tables(data: JsonObject, key: str) -> Iterator[JsonObject]:
    """The objects in a list, at most 100."""
    value = data.get(key)
    yield from (item for item in (value[:100] if isinstance(value, list) else ()) if isinstance(item, dict))


def texts(data: JsonObject, key: str) -> tuple[str, ...]:
    """The texts in a list, at most 100."""
    value = data.get(key)
    items = value[:100] if isinstance(value, list) else []
    return tuple(item[:1000] for item in items if isinstance(item, str))
