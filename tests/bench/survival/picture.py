"""What a node is, as one value that can be compared: the files of its owner, its services, and our own
state.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent import paths
from agent.containerd.view import names_snapshotter
from agent.records import generations
from agent.system.files import RootFiles
from tests.bench.survival.stage import CONTAINERD_CONFIG, ENABLED_BY, Stage

_NOT_LOOKED_AT = ("proc", "run")  # the kernel's, and gone at each boot
_TEMPORARY = (".nna-tmp", ".nydus-agent-candidate")


@dataclass(frozen=True)
class Picture:
    """Two equal pictures are the same node, to the last byte and mode."""

    files: dict[str, tuple[object, ...]]
    """path -> what lies there; nothing of our own state."""
    services: dict[str, tuple[object, ...]]
    """unit -> whether it runs, starts at boot, and what its process read when it started."""
    accepted: tuple[object, ...]
    """Number and verb of the newest generation, and what the daemon reads of it."""
    left: tuple[str, ...] = ()
    """What nobody should find: temporary files, parts of a journal."""


def take(root: Path) -> Picture:
    """The node as it is now."""
    files = dict(_tree(root, ""))
    ours = {path for path in files if path.startswith(paths.STATE_DIR)}
    left = [
        path for path in files if path.endswith(_TEMPORARY) or path.startswith(f"{paths.STATE_DIR}/journal/")
    ]
    others = {path: what for path, what in files.items() if path not in ours}
    return Picture(others, _services(Stage(root)), _accepted(root), tuple(sorted(left)))


def _tree(root: Path, below: str) -> list[tuple[str, tuple[object, ...]]]:
    found: list[tuple[str, tuple[object, ...]]] = []
    with os.scandir(f"{root}{below}") as entries:
        for entry in entries:
            path = f"{below}/{entry.name}"
            status = entry.stat(follow_symlinks=False)
            inode = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if entry.is_symlink():
                found.append((path, ("link", os.readlink(entry.path))))
            elif entry.is_dir() and path.lstrip("/") not in _NOT_LOOKED_AT:
                found.append((path, ("directory", *inode)))
                found += _tree(root, path)
            elif entry.is_file():
                found.append((path, ("file", *inode, Path(entry.path).read_bytes())))
    return found


def _services(stage: Stage) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    there = stage.at(paths.SNAPSHOTTER_UNIT_FILE).exists()
    for name in (paths.CONTAINERD_UNIT, paths.SNAPSHOTTER_UNIT):
        unit = stage.units.get(name)
        if (
            unit is not None
            and name == paths.SNAPSHOTTER_UNIT
            and not there
            and unit.active_state == "inactive"
        ):
            unit = None  # systemd forgets a unit without a file when it likes
        read = tuple(sorted(stage.read_by(name).items()))
        found[name] = ("unknown",) if unit is None else (unit.active_state, unit.unit_file_state, read)
    return found


def _accepted(root: Path) -> tuple[object, ...]:
    last = generations.newest(RootFiles(str(root)))
    effective = root / paths.EFFECTIVE.lstrip("/")
    if not effective.exists():
        return (last and (last.number, last.verb), None)
    said = json.loads(effective.read_text())
    return (
        last and (last.number, last.verb),
        tuple(sorted((key, str(said[key])) for key in ("switch", "dialect"))),
    )


def unsafe(root: Path) -> str:
    """Why containerd would start new pods with a snapshotter that is not there, did this node boot now
    without us.
    """
    place = root / CONTAINERD_CONFIG.lstrip("/")
    config = place.read_bytes() if place.exists() else b""
    if not names_snapshotter(config):
        return ""
    missing = [path for path in (paths.SNAPSHOTTER_UNIT_FILE, paths.SNAPSHOTTER_CONFIG, paths.NYDUSD_TEMPLATE)
               if not (root / path.lstrip("/")).exists()]  # fmt: skip
    if missing:
        return f"containerd names the snapshotter, {missing[0]} is not there"
    if not (root / ENABLED_BY.lstrip("/")).is_symlink():
        return "containerd names a snapshotter that does not start at boot"
    return ""


def differs(one: Picture, other: Picture) -> str:
    """The first difference in words; "" where there is none."""
    for path in sorted({*one.files, *other.files}):
        if one.files.get(path) != other.files.get(path):
            return f"{path}: {one.files.get(path)!r:.200} against {other.files.get(path)!r:.200}"
    if one.services != other.services:
        return f"services: {one.services} against {other.services}"
    return "" if one == other else f"{one.accepted} {one.left} against {other.accepted} {other.left}"
