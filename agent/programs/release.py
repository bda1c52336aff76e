"""What upstream publishes, and how the packages of it are called. PURE.

The names of the archives are upstream's since nydus v2.0.1 and nydus-snapshotter v0.13.6
(.github/workflows/release.yml of each).
"""

from __future__ import annotations

import enum
import re

from agent import paths
from agent.config.forms import is_release
from agent.facts.node import Arch

NAMED_IN = (paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE)
"""Files of a node that name the programs in use by their paths."""


class ProgramName(enum.StrEnum):
    """The programs that a node needs of upstream's archives."""

    NYDUSD = "nydusd"
    NYDUS_IMAGE = "nydus-image"
    SNAPSHOTTER = "containerd-nydus-grpc"


class Project(enum.StrEnum):
    """What upstream releases as one archive, and what is one package here."""

    NYDUS = "nydus"
    SNAPSHOTTER = "nydus-snapshotter"

    @property
    def programs(self) -> tuple[ProgramName, ...]:
        """The programs that are taken out of the archive; the first is the one that the project is for."""
        return _PROGRAMS[self]

    def package(self, version: str) -> str:
        """The name of the Debian package: each version has its own, so that several lie side by side."""
        return f"{self}-programs-{version}"

    def directory(self, version: str) -> str:
        """Where the package has its programs."""
        return f"{paths.PROGRAMS}/{self}-{version}"

    def version_in(self, name: str) -> str:
        """The version of a directory of this project, such as "nydus-2.4.4"; "" for any other name."""
        version = name.removeprefix(f"{self}-")
        return version if version != name and is_release(version) else ""

    def url(self, version: str, arch: Arch) -> str:
        """Where upstream publishes the archive."""
        return _URLS[self].format(tag=f"v{version}", arch=arch.value)


_PROGRAMS = {
    Project.NYDUS: (ProgramName.NYDUSD, ProgramName.NYDUS_IMAGE),
    Project.SNAPSHOTTER: (ProgramName.SNAPSHOTTER,),
}
_URLS = {
    Project.NYDUS: (
        "https://github.com/dragonflyoss/nydus/releases/download/{tag}/nydus-static-{tag}-linux-{arch}.tgz"
    ),
    Project.SNAPSHOTTER: (
        "https://github.com/containerd/nydus-snapshotter/releases/download/{tag}/"
        "nydus-snapshotter-{tag}-linux-{arch}.tar.gz"
    ),
}


def package_of(path: str) -> str:
    """The package that a program belongs to, by its path; "" for a program that is in none."""
    name = path.removeprefix(f"{paths.PROGRAMS}/")
    if name == path:
        return ""
    directory = name.partition("/")[0]
    known = ((project, project.version_in(directory)) for project in Project)
    return next((project.package(version) for project, version in known if version), "")


def order(version: str) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """What versions are sorted by: the numbers; 2.4.0-rc.1 is older than 2.4.0."""
    numbers, _, rest = version.partition("-")
    return tuple(map(int, numbers.split("."))), not rest, tuple(map(int, re.findall(r"[0-9]+", rest)))


def numbers(version: str) -> tuple[int, ...]:
    """(2, 4, 4) of "2.4.4", and (2, 4, 0) of "2.4.0-rc.1"."""
    return order(version)[0]
