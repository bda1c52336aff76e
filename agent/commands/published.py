"""What the daemon and root's verbs have published, read defensively: status.json is written by an
unprivileged user, so its size is capped, links are not followed, and it is read strictly. In root's own files
a value of another type than expected counts as not there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agent.documents.codec import DocumentError, from_document
from agent.documents.status import DaemonStatus
from agent.outside_json import json_value

SIZE_CAP = 1 << 20  # bytes; a status is a few thousand

JsonObject: TypeAlias = Mapping[str, object]
"""A JSON object of which nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file is there but could not be read or understood."""

    path: str
    reason: str
    permission: bool = False


def read_json(path: str) -> JsonObject | Unreadable | None:
    """A JSON object; None: no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unreadable(path, error.strerror or str(error), isinstance(error, PermissionError))
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            return Unreadable(path, "is not a regular file")
        if seen.st_size > SIZE_CAP:
            return Unreadable(path, f"is larger than {SIZE_CAP} bytes")
        content = os.read(descriptor, SIZE_CAP)
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    finally:
        os.close(descriptor)
    return parsed(path, content)


def parsed(path: str, content: bytes) -> JsonObject | Unreadable:
    """The JSON object that came from `path`."""
    try:
        document = json_value(content)
    except ValueError:
        return Unreadable(path, "is not JSON")
    return document if isinstance(document, dict) else Unreadable(path, "is not a JSON object")


def daemon_status(path: str, found: JsonObject | Unreadable | None) -> DaemonStatus | Unreadable | None:
    """What the daemon published in `path`; an Unreadable names the key that is not as it must be."""
    if found is None or isinstance(found, Unreadable):
        return found
    try:
        return from_document(DaemonStatus, found)
    except DocumentError as error:
        return Unreadable(path, str(error))


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """One check of the last proof."""

    number: int
    name: str
    state: str
    detail: str
    code: str
    cause: str
    evidence: tuple[str, ...]
    try_: str


@dataclass(frozen=True, slots=True)
class ProofStatus:
    """The last proof."""

    at: float | None
    checks: tuple[CheckStatus, ...]
    drift: tuple[str, ...]
    """What others have changed that is ours, in words."""
    versions: Mapping[str, str]
    pending: tuple[str, ...] = ()
    """What the configuration wants other than was applied, in words."""
    unrenewed: tuple[str, ...] = ()
    """Images in use whose credential expires and is not renewed."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at for drift, each with the reason."""

    @property
    def failed(self) -> tuple[CheckStatus, ...]:
        """Checks that failed, lowest first."""
        return tuple(check for check in self.checks if check.state == "failed")


def proof_status_of(data: JsonObject) -> ProofStatus:
    """What proof.json says; an unknown state counts as unknown."""
    checks = tuple(
        CheckStatus(_whole(item, "number"), _text(item, "name"),
             state if (state := _text(item, "state")) in ("ok", "failed", "not-proved") else "unknown",
             _text(item, "detail"), _text(item, "code"), _text(item, "cause"), _texts(item, "evidence"),
             _text(item, "try"))
        for item in _tables(data, "checks")
    )  # fmt: skip
    versions = {name: value for name, value in _table(data, "versions").items() if isinstance(value, str)}
    in_order = tuple(sorted(checks, key=lambda check: check.number))
    return ProofStatus(
        _number(data, "at"), in_order, _texts(data, "drift"), versions, _texts(data, "pending"),
        _texts(data, "unrenewed"), _texts(data, "unseen"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EffectiveStatus:
    """What "auto" came to when the node was changed."""

    at: float | None
    generation: int
    switch: str
    dialect: str
    use_http: bool | None
    reasons: tuple[str, ...]
    not_accelerated: tuple[str, ...]
    rolled_back_to: int = 0
    """The generation whose state it is, where it is a rollback; else 0."""


def effective_of(data: JsonObject) -> EffectiveStatus:
    """What effective.json says."""
    return EffectiveStatus(
        _number(data, "at"), _whole(data, "generation"), _text(data, "switch", "unknown"),
        _text(data, "dialect"), _truth(data, "use_http"), _texts(data, "reasons"),
        _texts(data, "not_accelerated"), _whole(data, "rolled_back_to"),
    )  # fmt: skip


def _text(data: JsonObject, key: str, default: str = "") -> str:
    """A text, shortened to 1000 characters."""
    value = data.get(key)
    return value[:1000] if isinstance(value, str) else default


def _number(data: JsonObject, key: str) -> float | None:
    """A finite number; a bool is none."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return None
    return float(value)


def _whole(data: JsonObject, key: str, default: int = 0) -> int:
    """A whole number."""
    value = _number(data, key)
    return default if value is None else int(value)


def _truth(data: JsonObject, key: str) -> bool | None:
    """True, False, or None for "not known"."""
    value = data.get(key)
    return value if isinstance(value, bool) else None


def _table(data: JsonObject, key: str) -> JsonObject:
    """A nested object; empty where there is none."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _tables(data: JsonObject, key: str) -> Iterator[JsonObject]:
    """The objects in a list, at most 100."""
    value = data.get(key)
    yield from (item for item in (value[:100] if isinstance(value, list) else ()) if isinstance(item, dict))


def _texts(data: JsonObject, key: str) -> tuple[str, ...]:
    """The texts in a list, at most 100."""
    value = data.get(key)
    items = value[:100] if isinstance(value, list) else []
    return tuple(item[:1000] for item in items if isinstance(item, str))
