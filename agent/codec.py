"""Writes a dataclass as JSON and reads it back, by the annotations of its fields.

A field is str, int, float, bool, bytes (base64), an enum, another dataclass, Optional, tuple, frozenset, a
mapping from str, or `object` (any JSON). A union of dataclasses is told apart by their TAG, which stands in
the JSON as "kind". A Python keyword has an underscore at its end, which the JSON lacks.

Reading is strict, because a less privileged process may have written the text: a value of another type, a
number out of range or a list without end is an error that names the key. A missing key takes the field's
default. Unknown keys are ignored: the writer may be newer.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar

from agent import API_VERSION
from agent.outside_json import CAP, json_object

T = TypeVar("T")


class DocumentError(ValueError):
    """A document is not as it must be. `key` is the path to the value: "history.3.at"."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.key = key
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value may be; of numbers the default bounds are those of 64 bits and of seconds."""

    least: float | None = None
    most: float | None = None
    cut: int = 0
    """Characters of a text that is only shown: a longer one is cut. 0: a text may not be longer than
    LENGTH."""


LENGTH = 1 << 16
"""Characters of a text, and items of a list or mapping, that an honest document does not reach."""
_WHOLE = 1 << 63
_NUMBER = 1e15
"""Beyond every time in seconds and every number of milliseconds."""
_NO_LIMITS = Limits()

Text: TypeAlias = Annotated[str, Limits(cut=1000)]
"""A text for people."""
Time: TypeAlias = Annotated[float, Limits(least=0)]
"""Seconds since the epoch."""
Count: TypeAlias = Annotated[int, Limits(least=0)]
Port: TypeAlias = Annotated[int, Limits(least=0, most=65535)]


ALWAYS = types.MappingProxyType({"always": True})
"""Metadata of a field that has a default in code and none in a document, which is damaged without it."""
UNWRITTEN = types.MappingProxyType({"unwritten": True})
"""Metadata of a field that no document has."""


@dataclass(frozen=True, slots=True)
class FieldForm:
    """A field as it stands in JSON. `required`: it has no default, or is ALWAYS written."""

    key: str
    name: str
    annotation: Any
    required: bool


@cache
def fields_of(cls: type) -> tuple[FieldForm, ...]:
    """The fields of a dataclass, in order; those that are not given at its creation are not written."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        FieldForm(
            field.name.rstrip("_"), field.name, hints[field.name],
            "always" in field.metadata
            or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING),
        )
        for field in dataclasses.fields(cls)
        if field.init and "unwritten" not in field.metadata
    )  # fmt: skip


@cache
def shape(annotation: Any) -> tuple[Any, tuple[Any, ...], Limits]:  # noqa: ANN401 - an annotation has no type
    """(the type or its origin, its arguments, its limits)."""
    if typing.get_origin(annotation) is Annotated:
        inner, *extras = typing.get_args(annotation)
        origin, arguments, _ = shape(inner)
        return origin, arguments, next((one for one in extras if isinstance(one, Limits)), _NO_LIMITS)
    origin = typing.get_origin(annotation)
    if origin is types.UnionType:
        origin = typing.Union
    return origin or annotation, typing.get_args(annotation), _NO_LIMITS


def to_json(value: object, form: type | None = None) -> Any:  # noqa: ANN401 - JSON has no types
    """`value` as plain JSON. `form`: only the fields of this base class are written."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(to_json(item) for item in value)
    cls = form or type(value)
    written = {field.key: to_json(getattr(value, field.name)) for field in fields_of(cls)}
    tag = getattr(cls, "TAG", None)
    return written if tag is None else {"kind": tag, **written}


def to_document(value: object, form: type | None = None) -> dict[str, Any]:
    """`value` with its apiVersion and its kind, which its class names as KIND."""
    kind = (form or type(value)).KIND  # type: ignore[attr-defined]  # a document's class has one
    return {"apiVersion": API_VERSION, "kind": kind, **to_json(value, form)}


def compact(value: object) -> bytes:
    """Plain JSON as bytes, in one line. Half a surrogate pair is written as JSON writes it: \\udXXX."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="backslashreplace")


def load_document(cls: type[T], content: bytes | str, cap: int = CAP) -> T:
    """The document that a file holds. Raises DocumentError."""
    try:
        found = json_object(content, cap)
    except ValueError as error:
        raise DocumentError("", str(error)) from None
    return from_document(cls, found)


def from_document(cls: type[T], found: object) -> T:
    """The same of what was parsed already. Raises DocumentError."""
    if not isinstance(found, Mapping):
        raise DocumentError("", "is no object")
    kind = cls.KIND  # type: ignore[attr-defined]  # a document's class has one
    for key, wanted in (("apiVersion", API_VERSION), ("kind", kind)):
        if found.get(key) != wanted:
            raise DocumentError(key, f"is not {wanted!r}")
    return from_json(cls, found)


def from_json(cls: type[T], value: object, key: str = "") -> T:
    """The dataclass that plain JSON describes; `key`: where it stands in a document. Raises DocumentError."""
    if not isinstance(value, Mapping):
        raise DocumentError(key, "is no object")
    given: dict[str, Any] = {}
    for field in fields_of(cls):  # type: ignore[arg-type]  # mypy's fault: a class can be hashed
        where = _below(key, field.key)
        if field.key in value:
            given[field.name] = decode(field.annotation, value[field.key], where)
        elif field.required:
            raise DocumentError(where, "is missing")
    try:
        return cls(**given)
    except ValueError as error:
        raise DocumentError(key, str(error)) from None


def try_from_json(cls: type[T], value: object) -> T | None:
    """As `from_json`; None where it raises: for a reader to whom a damaged record is as good as none."""
    try:
        return from_json(cls, value)
    except DocumentError:
        return None


def _below(key: str, name: object) -> str:
    return f"{key}.{str(name)[:100]}" if key else str(name)[:100]


def decode(annotation: Any, value: object, key: str) -> Any:  # noqa: ANN401 - as the annotation says
    """The value that an annotation asks for. Raises DocumentError."""
    form, arguments, limits = shape(annotation)
    if form in (object, Any):
        return value
    if form is typing.Union:
        return _union(arguments, value, key)
    if form in (tuple, frozenset):
        return form(_items(form, arguments, value, key))
    if form in (dict, Mapping):
        if not isinstance(value, dict) or len(value) > LENGTH:
            raise DocumentError(key, "is no object")
        return {name: decode(arguments[1], item, _below(key, name)) for name, item in value.items()}
    if dataclasses.is_dataclass(form):
        return from_json(form, value, key)  # type: ignore[arg-type]  # a type, as an annotation is one
    return _plain(form, value, key, limits)


def _union(arguments: tuple[Any, ...], value: object, key: str) -> object:
    members = [one for one in arguments if one is not types.NoneType]
    if value is None and len(members) < len(arguments):
        return None
    if len(members) == 1:
        return decode(members[0], value, key)
    kind = value.get("kind") if isinstance(value, Mapping) else None
    for member in members:
        if kind == member.TAG:
            return from_json(member, value, key)
    raise DocumentError(_below(key, "kind"), f"is none of {', '.join(one.TAG for one in members)}")


def _items(form: type, arguments: tuple[Any, ...], value: object, key: str) -> list[Any]:
    if not isinstance(value, (list, tuple)) or len(value) > LENGTH:
        raise DocumentError(key, "is no list")
    if form is frozenset or arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise DocumentError(key, f"has not {len(arguments)} items")
    return [
        decode(one, item, _below(key, at))
        for at, (one, item) in enumerate(zip(arguments, value, strict=True))
    ]


# `form` is one of the types below.
def _plain(form: Any, value: object, key: str, limits: Limits) -> object:  # noqa: ANN401
    if form is str and isinstance(value, str):
        if limits.cut:
            return value[: limits.cut]
        if len(value) <= LENGTH:
            return value
        raise DocumentError(key, f"has more than {LENGTH} characters")
    if form is bool and isinstance(value, bool):
        return value
    if form in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(form, value, key, limits)
    if form is bytes and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise DocumentError(key, "is no base64") from None
    if issubclass(form, enum.Enum):
        known = [one.value for one in form]
        if value not in known:
            raise DocumentError(key, f"is none of {', '.join(map(str, known))}")
        return form(value)
    raise DocumentError(key, f"is no {_NAMES[form]}")


_NAMES = {str: "text", bool: "true or false", int: "whole number", float: "number", bytes: "text in base64"}


def _number(form: type, value: float, key: str, limits: Limits) -> float:
    bound = _WHOLE if form is int else _NUMBER
    least = -bound if limits.least is None else limits.least
    most = bound if limits.most is None else limits.most
    if form is int and isinstance(value, float):
        raise DocumentError(key, "is no whole number")
    if not least <= value <= most:  # neither is NaN
        raise DocumentError(key, f"is not between {least:g} and {most:g}")
    return value if form is int else float(value)
