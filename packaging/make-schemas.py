#!/usr/bin/env python3
"""Writes the JSON schemas of the documents that agent/documents describes.

usage: packaging/make-schemas.py [DIRECTORY]   (default: docs/schema)

documents.json holds the parts, one for each dataclass; each document has a file of its own by its kind. The
texts are the docstrings of the classes and of their fields.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agent import API_VERSION  # noqa: E402 - the path comes first
from agent.codec import Limits, fields_of, shape  # noqa: E402
from agent.documents.status import (  # noqa: E402
    DaemonStatus,
    EffectiveDocument,
    ProofDocument,
)

DOCUMENTS: tuple[type, ...] = (DaemonStatus,)
SHOWN: tuple[type, ...] = (EffectiveDocument, ProofDocument)
"""Documents that `status` shows as a part of its answer."""
PARTS = "documents.json"
_PLAIN = {str: "string", bytes: "string", bool: "boolean", int: "integer", float: "number"}


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> schema."""
    parts: dict[str, Any] = {}
    made: dict[str, dict[str, Any]] = {}
    for cls in DOCUMENTS:
        reference = _of(cls, parts)
        kind = cls.KIND  # type: ignore[attr-defined]  # a document has one
        head = {"apiVersion": {"const": API_VERSION}, "kind": {"const": kind}}
        made[f"{kind}.json"] = {
            **_head(f"{kind}.json", _first(cls)),
            "required": list(head), "properties": head,
            "allOf": [{"$ref": PARTS + reference["$ref"]}],
        }  # fmt: skip
    for cls in SHOWN:
        _of(cls, parts)
    made[PARTS] = {**_head(PARTS, "The parts of the documents"), "$defs": dict(sorted(parts.items()))}
    return made


def _head(name: str, title: str) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": name, "title": title}


def _first(told: object) -> str:
    return (inspect.getdoc(told) or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")


def _of(annotation: Any, parts: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - as the codec takes it
    form, arguments, limits = shape(annotation)
    if form in (object, Any):
        return {}
    if form is typing.Union:
        return _union(arguments, parts)
    if form is tuple and arguments[-1] is not Ellipsis:
        items = [_of(one, parts) for one in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if form in (tuple, frozenset):
        return {"type": "array", "items": _of(arguments[0], parts)}
    if form in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], parts)}
    if dataclasses.is_dataclass(form):
        return _part(form, parts)  # type: ignore[arg-type]  # a class
    if issubclass(form, enum.Enum):
        return {"enum": [one.value for one in form]}
    return {"type": _PLAIN[form], **dict(_bounds(limits))}


def _bounds(limits: Limits) -> Iterator[tuple[str, float]]:
    if limits.least is not None:
        yield "minimum", limits.least
    if limits.most is not None:
        yield "maximum", limits.most


def _union(arguments: tuple[Any, ...], parts: dict[str, Any]) -> dict[str, Any]:
    found = [_of(one, parts) for one in arguments if one is not types.NoneType]
    return {"anyOf": [*found, {"type": "null"}]} if types.NoneType in arguments else {"anyOf": found}


def _part(cls: type, parts: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in parts:
        parts[cls.__name__] = {}  # it may hold itself
        told, fields = _texts(cls), fields_of(cls)  # type: ignore[arg-type]  # mypy's fault
        properties = {
            field.key: _of(field.annotation, parts)
            | ({"description": told[field.name]} if field.name in told else {})
            for field in fields
        }
        tag = getattr(cls, "TAG", None)
        if tag is not None:
            properties = {"kind": {"const": tag}, **properties}
        parts[cls.__name__] = {
            "description": _first(cls), "type": "object", "required": list(properties),
            "properties": properties,
        }  # fmt: skip
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _texts(cls: type) -> dict[str, str]:
    """Field -> the docstring below it."""
    tree = ast.parse(inspect.getsource(cls)).body[0]
    found: dict[str, str] = {}
    assert isinstance(tree, ast.ClassDef)
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(before, ast.AnnAssign) and isinstance(text, ast.Constant):
            assert isinstance(before.target, ast.Name)
            found[before.target.id] = " ".join(str(text.value).split())
    return found


def rendered() -> dict[str, str]:
    """File name -> its text."""
    return {name: json.dumps(schema, indent=1) + "\n" for name, schema in schemas().items()}


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/schema"
    for name, text in rendered().items():
        (place / name).write_text(text)
