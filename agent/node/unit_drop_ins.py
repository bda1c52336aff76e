"""The drop-ins that systemd reads for a unit: those that it has loaded, or will load with its next reload."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from agent.errors import PortError
from agent.node.facts import FileFact, UnitFact, Unknown
from agent.ports import Files

_DIRECTORIES = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/etc/systemd/system",
    "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
)  # fmt: skip
"""From the one that counts most (systemd.unit(5), "System Unit Search Path")."""


def look(unit: UnitFact | None | Unknown, files: Files) -> tuple[FileFact, ...] | Unknown:
    """In the order in which systemd reads them."""
    if not isinstance(unit, UnitFact):
        return ()
    try:
        wanted = tuple(_on_disk(unit.name, files)) if unit.needs_reload else unit.drop_in_paths
        found = [files.read(path) for path in wanted]
    except PortError as error:
        return Unknown(f"{error.what}: {error.cause}")
    return tuple(one for one in found if one is not None)


def _on_disk(name: str, files: Files) -> Iterator[str]:
    """By their names, whatever directory they lie in; of one name the first counts, and an empty one hides the rest."""
    paths: dict[str, str] = {}
    for above in _names(name):
        for directory in _DIRECTORIES:
            place = posixpath.join(directory, f"{above}.d")
            for one in files.listdir(place):
                if one.endswith(".conf"):
                    paths.setdefault(one, posixpath.join(place, one))
    return (paths[one] for one in sorted(paths))


def _names(name: str) -> Iterator[str]:
    """The unit's own name, then what it shares with others: a-b.service has a-.service.d and service.d too."""
    stem, _, kind = name.rpartition(".")
    yield name
    while "-" in stem.rstrip("-"):
        stem = stem.rstrip("-").rpartition("-")[0] + "-"
        yield f"{stem}.{kind}"
    yield kind
