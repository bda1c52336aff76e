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
from dataclasses import dataclass, replace
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


_NAMES = {
    "version", "imports", "disabled_plugins", "proxy_plugins", "plugins", "grpc", "containerd", "registry",
    "snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers", "config_path", "mirrors",
    "runtimes", "default_runtime_name", "runtime_platforms",
}  # fmt: skip
"""Keys that count here; containerd reads them in large letters too (go-toml's Unmarshal)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One file that containerd reads."""

    path: str
    content: bytes
    document: Mapping[str, Any]
    globs_below: str = ""
    """Where a relative glob of its imports begins; "" = beside it."""

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
        here = posixpath.dirname(self.path)
        places = ((self.globs_below or here if is_glob(text) else here, text) for text in texts)
        return tuple(posixpath.normpath(posixpath.join(*place)) for place in places)

    @property
    def misplaced_imports(self) -> tuple[str, ...]:
        """Those of its imports that do not begin beside it, as its owner may believe."""
        beside = replace(self, globs_below="")
        return tuple(one for one, meant in zip(self.patterns, beside.patterns, strict=True) if one != meant)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A file that is loaded and that we cannot understand."""

    path: str
    reason: str


def load(
    root: str, read: Read, glob: Glob, version: Version | Unknown
) -> tuple[tuple[Loaded, ...], tuple[Stuck, ...]]:
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
            loaded = replace(loaded, globs_below=_globs_below(version))
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
        document = tomllib.loads(content.decode())
    except ValueError as error:
        return Stuck(path, f"does not parse: {error}")
    if odd := _odd_key(document):
        return Stuck(path, f"has the key {odd}: write it in small letters")
    return Loaded(path, content, document)


def _odd_key(table: Mapping[str, Any]) -> str:
    """A key that containerd takes for one of these, whatever its letters; "" for none."""
    inner = (_odd_key(value) for value in table.values() if isinstance(value, Mapping))
    here = (key for key in table if key not in _NAMES and key.lower() in _NAMES)
    return next(here, "") or next(filter(None, inner), "")


def _globs_below(version: Version | Unknown) -> str:
    """Before 1.6.30 and 1.7.16 a relative glob begins in the process' directory, which is "/" for a unit."""
    if isinstance(version, Unknown) or (1, 6, 30) <= version < (1, 7) or version >= (1, 7, 16):
        return ""
    return "/"


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
            self.version,
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
    return Node(version_of(facts.containerd), files)


def version_of(containerd: Binary | None | Unknown) -> Version | Unknown:
    """The version of the program that was found."""
    return containerd.version if isinstance(containerd, Binary) else Unknown("it was not found")
