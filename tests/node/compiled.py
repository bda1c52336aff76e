"""What Debian's py3compile makes of our package when it is installed, kept for the next node of the same
root.

It is half of what an installation computes and the same on each node: py3compile leaves alone what is newer
than its source. The first installation of a package under test is thus a whole one; the package's own tests
(tests/package) know nothing of this, and what is installed here is what dpkg and the package's scripts
install.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.node.boot import Node

KEPT = Path(__file__).parents[2] / "build" / "compiled"
_MODULES = "usr/share/nydus-node-agent"
_DEADLINE_S = 60


def lay(node: Node, deb: Path, place: Path = KEPT) -> bool:
    """Put what was compiled of this package onto a node that does not have it yet; whether there was
    anything.
    """
    kept = _kept(node, deb, place)
    if not kept.is_file() or node.exists(f"/{_MODULES}"):
        return False
    _tar(node, "--extract", f"--file={kept}")
    return True


def keep(node: Node, deb: Path, place: Path = KEPT) -> None:
    """Keep what the installation of this package has compiled; that of former packages goes."""
    kept = _kept(node, deb, place)
    if kept.is_file():
        return
    found = sorted(node.inside(_MODULES).rglob("__pycache__"))
    directories = [str(directory.relative_to(node.inside("/"))) for directory in found]
    place.mkdir(parents=True, exist_ok=True)
    for former in set(place.glob("*.tar")) - set(place.glob(f"{_digest(deb)}-*.tar")):
        former.unlink(missing_ok=True)
    half = kept.with_suffix(f".{os.getpid()}")
    _tar(node, "--create", f"--file={half}", *directories)
    half.rename(kept)


def _kept(node: Node, deb: Path, place: Path) -> Path:
    # Another root has another Python.
    return place / f"{_digest(deb)}-{node.lower.name}.tar"


def _digest(deb: Path) -> str:
    with open(deb, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _tar(node: Node, *arguments: str) -> None:
    place = f"--directory={node.inside('/')}"
    subprocess.run(["tar", place, *arguments], check=True, stdin=subprocess.DEVNULL, timeout=_DEADLINE_S)
