"""What the codec writes it reads back; what is not as its annotations say is an error that names the key."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from agent import API_VERSION, codec
from agent.codec import Count, DocumentError, Port, Text, from_json, load_document, to_json


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    from_: Text = ""


@dataclass(frozen=True, slots=True)
class Circle:
    TAG: ClassVar = "circle"
    radius: float


@dataclass(frozen=True, slots=True)
class Square:
    TAG: ClassVar = "square"
    side: int


@dataclass(frozen=True, slots=True)
class Tree:
    KIND: ClassVar = "Tree"
    colour: Colour
    leaves: tuple[Leaf, ...] = ()
    port: Port = 0
    count: Count = 0
    height: float | None = None
    alive: bool = True
    names: frozenset[str] = frozenset()
    pair: tuple[str, int] = ("", 0)
    counts: Mapping[str, int] = field(default_factory=dict)
    content: bytes | None = None
    drawn: Circle | Square | None = None
    more: object = None
    hidden: int = field(default=0, metadata={"unwritten": True})


FULL = Tree(
    Colour.BLUE, (Leaf("a", "b"), Leaf("c")), 4001, 3, 1.5, False, frozenset({"y", "x"}), ("p", 2), {"k": 1},
    b"\x00\xff", Square(2), {"any": [1]},
)  # fmt: skip


def test_what_is_written_is_read_back() -> None:
    written = json.dumps(codec.to_document(FULL))
    assert load_document(Tree, written) == FULL
    assert load_document(Tree, codec.compact(codec.to_document(Tree(Colour.RED)))) == Tree(Colour.RED)


def test_the_json_has_the_names_and_forms_that_people_expect() -> None:
    written = codec.to_document(FULL)
    assert (written["apiVersion"], written["kind"]) == (API_VERSION, "Tree")
    assert written["leaves"] == [{"name": "a", "from": "b"}, {"name": "c", "from": ""}]
    assert (written["names"], written["content"]) == (["x", "y"], "AP8=")
    assert written["drawn"] == {"kind": "square", "side": 2}
    assert "hidden" not in written


def test_only_the_fields_of_a_base_class_are_written() -> None:
    @dataclass(frozen=True, slots=True)
    class More(Leaf):
        extra: int = 0

    assert to_json(More("a", "b", 3), Leaf) == {"name": "a", "from": "b"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "green"}, "colour: is none of red, blue"),
        ({"colour": ["red"]}, "colour: is none of red, blue"),
        ({"colour": None}, "colour: is none of red, blue"),
        ({"leaves": {}}, "leaves: is no list"),
        ({"leaves": [{"name": "a"}, 3]}, "leaves.1: is no object"),
        ({"leaves": [{"name": "a"}, {}]}, "leaves.1.name: is missing"),
        ({"leaves": [{"name": 7}]}, "leaves.0.name: is no text"),
        ({"leaves": [{"name": "x" * 70000}]}, "leaves.0.name: has more than 65536 characters"),
        ({"leaves": [{"name": "x"}] * 70000}, "leaves: is no list"),
        ({"port": 65536}, "port: is not between 0 and 65535"),
        ({"port": 4001.0}, "port: is no whole number"),
        ({"port": True}, "port: is no whole number"),
        ({"count": -1}, "count: is not between 0 and 9.22337e+18"),
        ({"count": 10**19}, "count: is not between 0 and 9.22337e+18"),
        ({"height": float("nan")}, "height: is not between -1e+15 and 1e+15"),
        ({"height": 10**400}, "height: is not between -1e+15 and 1e+15"),
        ({"height": False}, "height: is no number"),
        ({"alive": 1}, "alive: is no true or false"),
        ({"pair": ["p"]}, "pair: has not 2 items"),
        ({"counts": {"k": "v"}}, "counts.k: is no whole number"),
        ({"counts": []}, "counts: is no object"),
        ({"content": "%"}, "content: is no base64"),
        ({"content": 1}, "content: is no text in base64"),
        ({"drawn": {"kind": "line"}}, "drawn.kind: is none of circle, square"),
        ({"drawn": 3}, "drawn.kind: is none of circle, square"),
        ({"drawn": {"kind": "circle", "radius": "r"}}, "drawn.radius: is no number"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(change: dict[str, Any], told: str) -> None:
    with pytest.raises(DocumentError) as error:
        from_json(Tree, {"colour": "red", **change})
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ""),
        (b"[]", "is no JSON object"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "is nested deeper than 100 levels"),
        (b'{"kind": NaN}', "NaN is no number that JSON has"),
        (b'{"kind": 1e999}', "1e999 is no number that JSON has"),
        (b"\xff", ""),
        (b'{"kind": "Tree"}', f"apiVersion: is not '{API_VERSION}'"),
        (json.dumps({"apiVersion": API_VERSION, "kind": "Bush"}), "kind: is not 'Tree'"),
        (json.dumps({"apiVersion": API_VERSION, "kind": "Tree"}), "colour: is missing"),
    ],
)
def test_a_text_that_is_no_such_document_is_an_error_and_no_crash(content: bytes, told: str) -> None:
    with pytest.raises(DocumentError, match=told.replace(".", r"\.") or None):
        load_document(Tree, content)


def test_a_text_for_people_is_cut_and_an_unknown_key_is_ignored() -> None:
    found = from_json(Leaf, {"name": "a", "from": "x" * 5000, "new": 1})
    assert found == Leaf("a", "x" * 1000)


def test_no_number_that_json_lacks_is_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.compact(to_json(Circle(float("inf"))))
