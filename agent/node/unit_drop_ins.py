"""The drop-ins that systemd reads for a unit: those that it has loaded, or will load with its next reload."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from agent.errors import FileError, PortError
from agent.node.facts import FileFact, UnitFact, Unknown
from agent.ports import Files

_DIRECTORIES = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
)  # fmt: skip
"""From the one that counts most (systemd.unit(5), "System Unit Search Path")."""
_NO_FILE = "NNA0421"
"""It is no regular file."""


def read_drop_ins(unit: UnitFact | None | Unknown, files: Files) -> tuple[FileFact, ...] | Unknown:
    """In the order in which systemd reads them."""
    if not isinstance(unit, UnitFact):
        return ()
    try:
        wanted = tuple(_on_disk(unit.name, files)) if unit.needs_reload else unit.drop_in_paths
        found = [_read(files, path) for path in wanted]
    except PortError as error:
        return Unknown(f"{error.what}: {error.cause}")
    return tuple(one for one in found if one is not None)


def _read(files: Files, path: str) -> FileFact | None:
    """None where it is masked (a link to /dev/null) or leads to nothing: systemd reads nothing of it, nor of
    another one with its name.
    """
    try:
        return files.read(path)
    except FileError as error:
        if error.code == _NO_FILE:
            return None
        raise


def _on_disk(name: str, files: Files) -> Iterator[str]:
    """By their names, whatever directory they lie in; of one name the first counts, and an empty one hides
    the rest.
    """
    paths: dict[str, str] = {}
    for above in _names(name):
        for directory in _DIRECTORIES:
            place = posixpath.join(directory, f"{above}.d")
            for one in files.listdir(place):
                if one.endswith(".conf"):
                    paths.setdefault(one, posixpath.join(place, one))
    return (paths[one] for one in sorted(paths))


def _names(name: str) -> Iterator[str]:
    """The unit's own name, then what it shares with others: a-b.service has a-.service.d and service.d
    too.
    """
    stem, _, kind = name.rpartition(".")
    yield name
    while "-" in stem.rstrip("-"):
        stem = stem.rstrip("-").rpartition("-")[0] + "-"
        yield f"{stem}.{kind}"
    yield kind
