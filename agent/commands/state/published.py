"""What the daemon and root's verbs have published, read defensively: status.json is written by an
unprivileged user, so its size is capped, links are not followed, and it is read strictly.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from agent.codec import DocumentError, from_document
from agent.outside_json import json_value

T = TypeVar("T")

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


def document(cls: type[T], path: str, found: JsonObject | Unreadable | None) -> T | Unreadable | None:
    """What was published in `path`; an Unreadable names the key that is not as it must be."""
    if found is None or isinstance(found, Unreadable):
        return found
    try:
        return from_document(cls, found)
    except DocumentError as error:
        return Unreadable(path, str(error))


def read_document(cls: type[T], path: str) -> T | Unreadable | None:
    """The document that lies in `path`; None: no such file."""
    return document(cls, path, read_json(path))
