"""What a directory of a process is on, by its mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import enum

_EMPTY_DIR = "kubernetes.io~empty-dir"
"""In the path of each emptyDir that is no memory (kubelet's pods/UID/volumes/)."""
_MEMORY = ("tmpfs", "ramfs")


class SourcePlace(enum.StrEnum):
    """What becomes of the files there."""

    KEPT = "kept"
    POD = "an emptyDir"
    LAYER = "the container's own layer"
    MEMORY = "memory"


def place_of(mountinfo: str, directory: str, *, contained: bool) -> SourcePlace:
    """By the mount that is nearest above a directory; the last of several on one path is the one that is
    seen.
    """
    nearest, root, kind = "", "", ""
    directory = _escaped(directory)
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        fields = front.split()
        if len(fields) > 4 and above(fields[4], directory) and len(fields[4]) >= len(nearest):
            nearest, root, kind = fields[4], fields[3], back.partition(" ")[0]
    if kind in _MEMORY:
        return SourcePlace.MEMORY
    if _EMPTY_DIR in root:
        return SourcePlace.POD
    return SourcePlace.LAYER if contained and nearest == "/" and kind == "overlay" else SourcePlace.KEPT


def _escaped(path: str) -> str:
    """As the kernel writes a path there."""
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in path)


def above(mount: str, directory: str) -> bool:
    """Whether a directory is at a mount's path or below it."""
    return f"{directory.rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")
