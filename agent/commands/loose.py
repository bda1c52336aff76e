"""Typed getters for JSON that others wrote: a value of another type than expected counts as not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

Loose: TypeAlias = Mapping[str, object]
"""A JSON object of which nothing is known yet."""


def text(loose: Loose, key: str, default: str = "") -> str:
    """A text, shortened to 1000 characters."""
    value = loose.get(key)
    return value[:1000] if isinstance(value, str) else default


def number(loose: Loose, key: str) -> float | None:
    """A finite number; a bool is none."""
    value = loose.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return None
    return float(value)


def whole(loose: Loose, key: str, default: int = 0) -> int:
    """A whole number."""
    value = number(loose, key)
    return default if value is None else int(value)


def truth(loose: Loose, key: str) -> bool | None:
    """True, False, or None for "not known"."""
    value = loose.get(key)
    return value if isinstance(value, bool) else None


def table(loose: Loose, key: str) -> Loose:
    """A nested object; empty where there is none."""
    value = loose.get(key)
    return value if isinstance(value, dict) else {}


def tables(loose: Loose, key: str) -> Iterator[Loose]:
    """The objects in a list, at most 100."""
    value = loose.get(key)
    yield from (item for item in (value[:100] if isinstance(value, list) else ()) if isinstance(item, dict))


def texts(loose: Loose, key: str) -> tuple[str, ...]:
    """The texts in a list, at most 100."""
    value = loose.get(key)
    items = value[:100] if isinstance(value, list) else []
    return tuple(item[:1000] for item in items if isinstance(item, str))
