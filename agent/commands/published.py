"""What the daemon and root's verbs have published, read defensively: status.json is written by an
unprivileged user, so its size is capped, links are not followed, and a value of another type than expected
counts as not there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from agent.commands.json_fields import JsonObject, number, table, tables, text, texts, truth, whole
from agent.documents.codec import DocumentError, from_document
from agent.documents.status import DaemonStatus
from agent.outside_json import json_value

SIZE_CAP = 1 << 20  # bytes; a status is a few thousand


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
        CheckStatus(whole(item, "number"), text(item, "name"),
             state if (state := text(item, "state")) in ("ok", "failed", "not-proved") else "unknown",
             text(item, "detail"), text(item, "code"), text(item, "cause"), texts(item, "evidence"),
             text(item, "try"))
        for item in tables(data, "checks")
    )  # fmt: skip
    versions = {name: value for name, value in table(data, "versions").items() if isinstance(value, str)}
    in_order = tuple(sorted(checks, key=lambda check: check.number))
    return ProofStatus(
        number(data, "at"), in_order, texts(data, "drift"), versions, texts(data, "pending"),
        texts(data, "unrenewed"), texts(data, "unseen"),
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
        number(data, "at"), whole(data, "generation"), text(data, "switch", "unknown"), text(data, "dialect"),
        truth(data, "use_http"), texts(data, "reasons"), texts(data, "not_accelerated"),
        whole(data, "rolled_back_to"),
    )  # fmt: skip
