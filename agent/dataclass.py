"""What `dataclasses` offers, as far as it is used here, at a fraction of its price when a program starts.

A command declares well over a hundred such classes and makes values of a few. For each, `dataclasses` writes and
compiles up to eight methods (0.3 ms), and it imports `inspect` with all that this needs (10 ms): together that was the
larger part of the start of every verb. Here `__init__` is written when the first value is made; what else a class has
are the same few functions for all. Type checkers are shown the real ones, which take these classes too.

Only what is used is there: no inheritance between such classes, no order, no ClassVar or InitVar.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

# ruff: noqa: ANN401 - values of any class, as in dataclasses

_OURS = "__agent_fields__"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


_MISSING = _Missing()


class Field:
    """One field of a class: see `dataclasses.Field`."""

    __slots__ = ("compare", "default", "default_factory", "init", "metadata", "name", "repr", "type")

    def __init__(
        self,
        default: Any = _MISSING,
        default_factory: Any = _MISSING,
        *,
        init: bool = True,
        repr: bool = True,  # noqa: A002 - as in dataclasses
        compare: bool = True,
        metadata: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self.name = self.type = ""
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare, self.metadata = init, repr, compare, metadata


def _decorate(cls: Any = None, /, *, frozen: bool = False, slots: bool = False) -> Any:
    """`dataclasses.dataclass`. The class is made anew where it shall have slots."""
    if cls is None:
        return lambda decorated: _decorate(decorated, frozen=frozen, slots=slots)
    space = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    ours = {name: _field_of(name, kind, space.get(name, _MISSING)) for name, kind in cls.__annotations__.items()}
    for name, one in ours.items():
        if one.default is _MISSING or slots:
            space.pop(name, None)
        else:
            space[name] = one.default
    names = tuple(ours)
    added: dict[str, Any] = {
        _OURS: ours,
        "__agent_values__": staticmethod(_getter(names)),
        "__agent_compared__": staticmethod(_getter(one.name for one in ours.values() if one.compare)),
        "__match_args__": names,
        "__qualname__": cls.__qualname__,
        **_METHODS,
        **(_FROZEN if frozen else _MUTABLE),
    }
    if slots:
        added["__slots__"] = names
    return type(cls)(cls.__name__, cls.__bases__, {**added, **space})


def _field_of(name: str, kind: Any, given: Any) -> Field:
    one = given if isinstance(given, Field) else Field(given)
    one.name, one.type = name, kind
    return one


def _getter(names: Iterable[str]) -> Callable[[Any], Any]:
    """What takes these attributes of a value, as a tuple (of one: itself)."""
    wanted = tuple(names)
    return operator.attrgetter(*wanted) if wanted else _no_values


def _no_values(_one: object) -> tuple[()]:
    return ()


# The methods of all classes.


def _first(self: Any, *values: Any, **named: Any) -> None:
    """`__init__` until it has been called: the real one takes its place."""
    cls = type(self)
    cls.__init__ = _initializer(cls)
    cls.__init__(self, *values, **named)


def _initializer(cls: Any) -> Any:
    """A function as somebody would write it by hand."""
    arguments, body, space = ["self"], ["pass"], {"put": object.__setattr__, "MISSING": _MISSING}
    for name, one in getattr(cls, _OURS).items():
        space[f"default_{name}"], space[f"make_{name}"] = one.default, one.default_factory
        made = one.default_factory is not _MISSING
        if not one.init:
            body.append(f"put(self, {name!r}, {f'make_{name}()' if made else f'default_{name}'})")
            continue
        if made:
            arguments.append(f"{name}=MISSING")
            body.append(f"put(self, {name!r}, make_{name}() if {name} is MISSING else {name})")
            continue
        arguments.append(name if one.default is _MISSING else f"{name}=default_{name}")
        body.append(f"put(self, {name!r}, {name})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    lines = "\n    ".join(body)
    exec(f"def __init__({', '.join(arguments)}):\n    {lines}", space)  # noqa: S102 - names of fields, nothing else
    made_init: Any = space["__init__"]
    made_init.__qualname__ = f"{cls.__qualname__}.__init__"
    return made_init


def _equal(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return self.__agent_compared__(self) == self.__agent_compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__agent_compared__(self))


def _text(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, one in getattr(self, _OURS).items() if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _reduce(self: Any) -> tuple[Any, tuple[Any, ...]]:
    """For copy and pickle, which would set the attributes of a frozen value."""
    return type(self), tuple(getattr(self, name) for name in getattr(self, _OURS))


def _refuse(self: object, name: str, *_value: object) -> None:
    from dataclasses import FrozenInstanceError  # a bug: its price matters no more

    raise FrozenInstanceError(f"field {name!r} of a {type(self).__name__} cannot be changed")


class _AsTheirs:
    """The fields as `dataclasses` keeps them, for whoever asks with its functions (tests do)."""

    def __get__(self, _one: object, owner: Any) -> Any:
        import dataclasses

        theirs = [
            (one.name, one.type, dataclasses.field(
                **{key: value for key, value in (("default", one.default), ("default_factory", one.default_factory))
                   if value is not _MISSING},
                init=one.init, repr=one.repr, compare=one.compare, metadata=one.metadata,
            ))
            for one in getattr(owner, _OURS).values()
        ]  # fmt: skip
        owner.__dataclass_fields__ = vars(dataclasses.make_dataclass(owner.__name__, theirs))["__dataclass_fields__"]
        return owner.__dataclass_fields__


_METHODS = {"__init__": _first, "__eq__": _equal, "__repr__": _text, "__dataclass_fields__": _AsTheirs()}
_FROZEN = {"__hash__": _hash, "__setattr__": _refuse, "__delattr__": _refuse, "__reduce__": _reduce}
_MUTABLE = {"__hash__": None}


# The functions of dataclasses.


def _is(thing: object) -> bool:
    return hasattr(thing if isinstance(thing, type) else type(thing), _OURS)


def _fields(thing: Any) -> tuple[Field, ...]:
    return tuple(getattr(thing, _OURS).values())


def _replace(one: Any, /, **changes: Any) -> Any:
    """Quicker than that of dataclasses, which visits each of the fields in Python: the health machine lives on it."""
    names = one.__match_args__
    values = one.__agent_values__(one)
    return type(one)(**{**dict(zip(names, values if len(names) != 1 else (values,), strict=True)), **changes})


def _asdict(one: Any) -> dict[str, Any]:
    return {name: _plain(getattr(one, name)) for name in getattr(one, _OURS)}


def _plain(value: Any) -> Any:
    if _is(value) and not isinstance(value, type):
        return _asdict(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


if TYPE_CHECKING:
    from dataclasses import MISSING as MISSING
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import is_dataclass as is_dataclass
    from dataclasses import replace as replace
else:
    MISSING = _MISSING
    asdict, dataclass, field, fields, is_dataclass, replace = _asdict, _decorate, Field, _fields, _is, _replace
