"""Files that hold one JSON object each: what root keeps in /var/lib, for itself or for everyone to read.

They are replaced as a whole, and only where they still are what was read before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from agent.codec import try_from_json
from agent.facts.node import FileFact
from agent.outside_json import json_object
from agent.ports import Files

T = TypeVar("T")


def parsed(fact: FileFact | None) -> Mapping[str, Any]:
    """The object in it; empty where there is no such file, or none in it."""
    try:
        return json_object(fact.content) if fact is not None else {}
    except ValueError:
        return {}


def load(cls: type[T], files: Files, path: str) -> T | None:
    """The record in a file; None where there is none, or one that makes no sense. Raises FileError."""
    return understood(cls, files.read(path))


def understood(cls: type[T], fact: FileFact | None) -> T | None:
    """The same of a file that was read: whoever writes it anew guards that with this very reading."""
    return try_from_json(cls, parsed(fact))


def replace(
    files: Files, path: str, document: Mapping[str, object], *, found: FileFact | None, mode: int
) -> None:
    """Write it in the place of what was `found` there, as root's; for people to read too.

    Raises FileError (NNA0412: it is other by now).
    """
    expect = found.sha256 if found is not None else ""
    content = json.dumps(document, indent=1).encode() + b"\n"
    files.replace(path, content, mode=mode, uid=0, gid=0, expect_sha256=expect)


def update(
    files: Files,
    path: str,
    document: Mapping[str, object],
    fact: FileFact | None,
    *,
    ignored: Sequence[str] = (),
) -> bool:
    """Write it for everyone to read, where what was found there (`fact`) differs in more than the `ignored`
    members. Says whether something was written. Raises FileError (NNA0412: it is other by now).
    """
    wanted = json_object(json.dumps(document).encode())
    before = parsed(fact)
    if fact is not None and all(
        before.get(key) == wanted.get(key) for key in (before.keys() | wanted.keys()) - set(ignored)
    ):
        return False
    replace(files, path, document, found=fact, mode=0o644)
    return True


def drop(files: Files, path: str) -> None:
    """Remove it, where it is there. Raises FileError."""
    found = files.read(path)
    if found is not None:
        files.remove(path, expect_sha256=found.sha256)
