"""Archives as upstream releases its programs, and what a lock says of them.

nydus-static-vX-linux-ARCH.tgz has one directory `nydus-static` with the programs and `configs`;
nydus-snapshotter-vX-linux-ARCH.tar.gz has `bin` (both as of their release workflows in 2026).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.facts.node import Arch
from agent.programs.lock import Lock, Program, Release, render
from agent.programs.versions import ProgramName, Project

VERSIONS = {Project.NYDUS: "2.2.0", Project.SNAPSHOTTER: "0.16.1"}
"""What the recipes build."""
LOCK_NAME = "artifacts.lock.toml"
EPOCH = 1793491200  # 2026-11-01
FOLDERS = {Project.NYDUS: "nydus-static", Project.SNAPSHOTTER: "bin"}


@dataclass(frozen=True)
class Packed:
    """A release of one project."""

    release: Release
    """What a lock says of it."""
    files: Mapping[str, bytes]
    """The archive and its .sha256sum, by their names."""

    def lay(self, place: Path) -> Release:
        """Write the files into a directory."""
        place.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (place / name).write_bytes(content)
        return self.release


def packed(project: Project, programs: Mapping[str, bytes], version: str, arch: Arch = Arch.AMD64) -> Packed:
    """As upstream packs it: one directory, with what nobody takes out too."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _fill(tar, FOLDERS[project], programs)
    archive = gzip.compress(made.getvalue(), compresslevel=1, mtime=0)  # level 1: quick
    return of_archive(project, archive, programs, version, arch)


def of_archive(
    project: Project, archive: bytes, programs: Mapping[str, bytes], version: str, arch: Arch = Arch.AMD64
) -> Packed:
    """A release whose archive is this, and what a lock says of it where these are its programs."""
    digest = hashlib.sha256(archive).hexdigest()
    held = tuple(program(name, programs[name]) for name in project.programs if name in programs)
    url = project.url(version, arch)
    file = url.rpartition("/")[2]
    release = Release(project, version, arch, url, len(archive), digest, EPOCH, held)
    return Packed(release, {file: archive, f"{file}.sha256sum": f"{digest}  {file}\n".encode()})


def program(name: str, content: bytes) -> Program:
    """What a lock says of a program."""
    return Program(ProgramName(name), len(content), hashlib.sha256(content).hexdigest())


def write_lock(place: Path, *releases: Release) -> Path:
    """A lock of these, as an operator would keep it."""
    path = place / LOCK_NAME
    path.write_bytes(render(Lock(releases)))
    return path


def _fill(tar: tarfile.TarFile, folder: str, programs: Mapping[str, bytes]) -> None:
    _add_directory(tar, folder)
    if folder == FOLDERS[Project.NYDUS]:
        _add_directory(tar, f"{folder}/configs")
        _add(tar, f"{folder}/configs/nydusd-config.json", b"{}\n", 0o644)
    for name, content in programs.items():
        _add(tar, f"{folder}/{name}", content, 0o755)


def _add_directory(tar: tarfile.TarFile, name: str) -> None:
    directory = tarfile.TarInfo(f"{name}/")
    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(directory)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    member.uname = member.gname = "runner"
    member.uid = member.gid = 1001
    tar.addfile(member, io.BytesIO(content))
