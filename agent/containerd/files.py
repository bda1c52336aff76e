"""Which files a containerd of some version loads, in its order: the root file, then what the files import.

Breadth first; an import is relative to the file that names it; a pattern with "*" is a sorted glob and may
match nothing, any other import must be there; a file is loaded once (resolveImports in
cmd/containerd/server/config, and in services/server/config before 2.0). Pure: the caller reads.
"""

from __future__ import annotations

import enum
import posixpath
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.facts.node import Binary, Facts, FileFact, Unknown, Version

Read = Callable[[str], bytes | None | Unknown]
Glob = Callable[[str], Sequence[str]]


class Family(enum.Enum):
    """How the files become one configuration."""

    REPLACING = "1.x: a later file's plugin section takes the place of an earlier one"
    MERGING = "2.0 to 2.2: all files are merged key by key, then migrated from the last version that was seen"
    MIGRATING = "from 2.3: each file is migrated, then merged key by key"

    @property
    def highest(self) -> int:
        """The newest version of a file that it reads."""
        return {Family.REPLACING: 2, Family.MERGING: 3, Family.MIGRATING: 4}[self]


def family(version: Version) -> Family | None:
    """None for a containerd that nobody has looked at."""
    if version < (1, 6) or version >= (3,):
        return None
    if version < (2,):
        return Family.REPLACING
    return Family.MERGING if version < (2, 3) else Family.MIGRATING


@dataclass(frozen=True, slots=True)
class Loaded:
    """One file that containerd reads."""

    path: str
    content: bytes
    document: Mapping[str, Any]

    @property
    def version(self) -> int:
        """As it says; 0 where it says nothing."""
        value = self.document.get("version", 0)
        return value if isinstance(value, int) else -1

    @property
    def patterns(self) -> tuple[str, ...]:
        """Its imports as absolute paths or globs."""
        imports = self.document.get("imports")
        texts = [one for one in imports if isinstance(one, str)] if isinstance(imports, list) else []
        return tuple(posixpath.normpath(posixpath.join(posixpath.dirname(self.path), text)) for text in texts)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A file that is loaded and that we cannot understand."""

    path: str
    reason: str


def load(root: str, read: Read, glob: Glob) -> tuple[tuple[Loaded, ...], tuple[Stuck, ...]]:
    """All files in loading order, the root first (nothing where it is not there), and those that stand in the
    way.
    """
    found: dict[str, Loaded] = {}
    stuck: list[Stuck] = []
    pending = [root]
    while pending:
        path = pending.pop(0)
        if path in found or any(one.path == path for one in stuck):
            continue
        content = read(path)
        loaded = _parsed(path, content, wanted=path != root)
        if isinstance(loaded, Loaded):
            found[path] = loaded
            for pattern in loaded.patterns:
                pending += glob(pattern) if is_glob(pattern) else [pattern]
        elif loaded is not None:
            stuck.append(loaded)
    return tuple(found.values()), tuple(stuck)


def _parsed(path: str, content: bytes | None | Unknown, *, wanted: bool) -> Loaded | Stuck | None:
    if isinstance(content, Unknown):
        return Stuck(path, f"could not be read: {content.reason}")
    if content is None:
        return Stuck(path, "is imported and is not there") if wanted else None
    try:
        return Loaded(path, content, tomllib.loads(content.decode()))
    except ValueError as error:
        return Stuck(path, f"does not parse: {error}")


def is_glob(pattern: str) -> bool:
    """Whether containerd takes an import for a pattern."""
    return "*" in pattern


def matches(pattern: str, path: str) -> bool:
    """Whether a glob matches a path (filepath.Match: no part matches a slash, "*" matches a leading dot)."""
    return re.fullmatch(_regex(pattern), path) is not None


def _regex(pattern: str) -> str:
    out, rest = "", pattern
    while rest:
        char, rest = rest[0], rest[1:]
        closing = rest.find("]", 1)
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and closing > 0:
            inner, rest = rest[:closing], rest[closing + 1 :]
            out += f"[{inner}]"
        elif char == "\\" and rest:
            out, rest = out + re.escape(rest[0]), rest[1:]
        else:
            out += re.escape(char)
    return out


def expand(pattern: str, listdir: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """The paths that a glob matches, sorted as containerd loads them."""
    found = ["/"]
    for part in pattern.strip("/").split("/"):
        if re.search(r"[*?\[\\]", part) is None:
            found = [posixpath.join(base, part) for base in found]
        else:
            names = ((base, name) for base in found for name in sorted(listdir(base)))
            found = [posixpath.join(base, name) for base, name in names if matches(part, name)]
    magic = re.search(r"[*?\[\\]", posixpath.basename(pattern)) is not None
    return tuple(
        path for path in found if magic or posixpath.basename(path) in listdir(posixpath.dirname(path))
    )


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of containerd's files on a node: its version, and every file's content by path."""

    version: Version | Unknown
    files: Mapping[str, bytes | Unknown]

    def load(self, root: str) -> tuple[tuple[Loaded, ...], tuple[Stuck, ...]]:
        """What containerd loads of these files."""
        return load(
            root,
            self.files.get,
            lambda pattern: sorted(path for path in self.files if matches(pattern, path)),
        )

    def with_files(self, changes: Mapping[str, bytes | None]) -> Node:
        """The same node with other files; None takes one away."""
        files = {**self.files, **{path: content for path, content in changes.items() if content is not None}}
        return Node(
            self.version, {path: one for path, one in files.items() if changes.get(path, one) is not None}
        )


def node_of(facts: Facts) -> Node:
    """The files and the installed version (the one that reads them at the next start)."""
    files: dict[str, bytes | Unknown] = {}
    for entry in facts.files:
        if isinstance(entry, FileFact):
            files[entry.path] = entry.content
        elif isinstance(entry[1], Unknown):
            files[entry[0]] = entry[1]
    version = (
        facts.containerd.version if isinstance(facts.containerd, Binary) else Unknown("it was not found")
    )
    return Node(version, files)
