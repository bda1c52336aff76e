"""Our classes of values behave as those of the standard library do, by whose functions they are taken too."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from agent import dataclass as ours


class Kind(Protocol):
    """What both modules offer."""

    dataclass: Any
    field: Any


def declared(by: Kind) -> dict[str, Any]:
    """The same classes, declared by either module."""

    @by.dataclass(frozen=True, slots=True)
    class Point:
        """A place."""

        x: int
        y: int = 0
        name: str = by.field(default="", repr=False)
        seen: int = by.field(default=0, compare=False, metadata={"doc": "of no weight"})
        tags: Mapping[str, int] | tuple[str, ...] = by.field(default_factory=tuple)

        @property
        def far(self) -> bool:
            """Far away."""
            return self.x > 10

    @by.dataclass(frozen=True, slots=True)
    class One:
        only: object

    @by.dataclass(frozen=True, slots=True)
    class Empty:
        pass

    @by.dataclass
    class Tally:
        counted: list[int] = by.field(default_factory=list)
        limit: int = 3
        kept: int = by.field(default=7, init=False)

        def __post_init__(self) -> None:
            if self.limit < 0:
                raise ValueError("limit")

    return {"Point": Point, "One": One, "Empty": Empty, "Tally": Tally}


OURS, THEIRS = declared(ours), declared(dataclasses)
BOTH = pytest.mark.parametrize("made", [OURS, THEIRS], ids=["ours", "theirs"])


@BOTH
def test_equal_values_are_equal_whatever_does_not_count(made: dict[str, Any]) -> None:
    point, one = made["Point"], made["One"]
    assert point(1, name="a", seen=1) == point(1, 0, "a", 2)
    assert point(1) != point(2)
    assert hash(point(1, seen=1)) == hash(point(1, seen=2))
    assert len({point(1), point(1), point(2)}) == 2
    assert made["Empty"]() == made["Empty"]()
    assert made["Empty"]() != one(())
    assert one(1) != 1
    with pytest.raises(TypeError):
        hash(one([]))
    with pytest.raises(TypeError):
        hash(made["Tally"]())


@BOTH
def test_a_frozen_value_stays_as_it_was_made(made: dict[str, Any]) -> None:
    point = made["Point"](1)
    for name in ("x", "other"):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(point, name, 2)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        del point.x
    assert point == made["Point"](1)
    assert not hasattr(point, "__dict__")


@BOTH
def test_one_that_is_not_frozen_is_changed(made: dict[str, Any]) -> None:
    tally, other = made["Tally"](), made["Tally"](limit=5)
    tally.counted.append(1)
    tally.kept += 1
    assert (tally.counted, tally.limit, tally.kept) == ([1], 3, 8)
    assert (other.counted, other.limit, other.kept) == ([], 5, 7)


@BOTH
@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, 2, "", 0, (), 6), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
)
def test_what_cannot_be_made_is_told_at_once(
    made: dict[str, Any], values: tuple[Any, ...], named: dict[str, Any]
) -> None:
    for _ in range(2):  # the first value writes the method that makes all later ones
        with pytest.raises(TypeError, match="__init__"):
            made["Point"](*values, **named)
    with pytest.raises(ValueError, match="limit"):
        made["Tally"](limit=-1)


def test_a_value_reads_in_a_test_that_fails_as_theirs_does() -> None:
    for name, arguments in (("Point", (1, 2, "secret")), ("One", ("a",)), ("Empty", ()), ("Tally", ([1],))):
        assert repr(OURS[name](*arguments)) == repr(THEIRS[name](*arguments))
    assert "secret" not in repr(OURS["Point"](1, 2, "secret"))


@pytest.mark.parametrize("module", [ours, dataclasses])
def test_either_module_takes_our_values(module: Any) -> None:
    point = OURS["Point"](1, tags=(OURS["One"]("a"), {"k": OURS["One"](2)}))
    assert module.is_dataclass(point)
    assert module.is_dataclass(type(point))
    assert not module.is_dataclass("text")
    changed = module.replace(point, y=5)
    assert (changed.x, changed.y, changed.tags) == (1, 5, point.tags)
    assert module.replace(OURS["One"](1), only=2) == OURS["One"](2)
    told = {"x": 1, "y": 0, "name": "", "seen": 0, "tags": ({"only": "a"}, {"k": {"only": 2}})}
    assert module.asdict(point) == told
    found = {field.name: field for field in module.fields(type(point))}
    assert list(found) == ["x", "y", "name", "seen", "tags"]
    assert found["x"].default is module.MISSING
    assert found["y"].default == 0
    assert found["seen"].metadata["doc"] == "of no weight"
    with pytest.raises(TypeError):
        module.replace(point, z=1)


def test_a_copy_and_one_that_was_stored_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    point = OURS["Point"](1, tags=("a",))
    assert copy.deepcopy(point) == copy.copy(point) == point
    monkeypatch.setitem(globals(), "Point", OURS["Point"])
    OURS["Point"].__qualname__ = "Point"  # pickle looks it up by its name
    assert pickle.loads(pickle.dumps(point)) == point


def test_a_class_keeps_what_it_says_itself() -> None:
    point = OURS["Point"]
    assert inspect.getdoc(point) == "A place."
    assert point(11).far
    assert point.__match_args__ == ("x", "y", "name", "seen", "tags")
