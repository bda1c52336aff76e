"""The built .deb, its files and its scripts; and commands in roots that are gone afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.node import scene

NAME = "nydus-node-agent"


@dataclass(frozen=True)
class Package:
    """A .deb: its path, where it was unpacked, and its members as dpkg sees them."""

    path: Path
    files: Path
    control: Path
    members: tuple[tarfile.TarInfo, ...]

    def field(self, name: str) -> str:
        """A field of its control file, continuation lines joined."""
        return subprocess.run(
            ["dpkg-deb", "--field", self.path, name], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    def script(self, name: str) -> str:
        """A maintainer script."""
        return (self.control / name).read_text()

    def read(self, path: str) -> str:
        """A file that it installs."""
        return (self.files / path.lstrip("/")).read_text()

    def dependencies(self, field: str = "Depends") -> list[list[str]]:
        """Names of packages, alternatives together, versions left out."""
        groups = [group.split("|") for group in self.field(field).replace("\n", " ").split(",")]
        return [[re.split(r"[ (:]", name.strip())[0] for name in group] for group in groups]


def unpack(place: Path) -> Package:
    """The package that `make deb` built, unpacked below `place`."""
    deb = scene.deb()
    for kind, target in (("--extract", "files"), ("--control", "control")):
        subprocess.run(["dpkg-deb", kind, deb, place / target], check=True, timeout=60)
    tar = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True, timeout=60
    ).stdout
    (place / "members.tar").write_bytes(tar)
    with tarfile.open(place / "members.tar") as members:
        return Package(deb, place / "files", place / "control", tuple(members.getmembers()))


def in_root(
    script: str, root: str = "build-root", deadline_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a bash script (with -eu) in a copy of a root that is gone afterwards; the checkout is at /src."""
    return subprocess.run(
        ["tests/in-root", "bash", "-euc", script],
        env={**os.environ, "IN_ROOT": root, "IN_ROOT_NET": "none"}, cwd=scene.REPOSITORY,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=deadline_s,
    )  # fmt: skip
