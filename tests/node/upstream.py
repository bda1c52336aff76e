"""Archives as upstream releases its programs, made of those that the tests have built, and their lock.

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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.artifacts.lock import Artifact, ArtifactName, Lock, Program, parse, render
from agent.node.facts import Arch
from tests.node import cache

VERSIONS = {ArtifactName.NYDUS: "v2.2.0", ArtifactName.SNAPSHOTTER: "v0.16.1"}
"""What the recipes build."""
LOCK_NAME = "artifacts.lock.toml"
SERIAL = 2026110101
MADE = datetime(2026, 11, 1, tzinfo=UTC)

_URLS = {
    ArtifactName.NYDUS: "https://github.com/dragonflyoss/nydus/releases/download/{version}/"
    "nydus-static-{version}-linux-{arch}.tgz",
    ArtifactName.SNAPSHOTTER: "https://github.com/containerd/nydus-snapshotter/releases/download/{version}/"
    "nydus-snapshotter-{version}-linux-{arch}.tar.gz",
}
FOLDERS = {ArtifactName.NYDUS: "nydus-static", ArtifactName.SNAPSHOTTER: "bin"}

Contents = Mapping[ArtifactName, Mapping[str, Path]]
"""The programs of each artifact by their names."""


def built() -> Contents:
    """The programs for this machine's architecture, made now where they are not in the cache."""
    return contents(cache.make("nydus") / "bin", cache.make("snapshotter") / "bin")


def contents(nydus: Path, snapshotter: Path) -> Contents:
    """What a release holds of these directories' programs."""
    return {
        ArtifactName.NYDUS: {"nydusd": nydus / "nydusd", "nydus-image": nydus / "nydus-image"},
        ArtifactName.SNAPSHOTTER: {"containerd-nydus-grpc": snapshotter / "containerd-nydus-grpc"},
    }


def release(place: Path, programs: Contents, arch: Arch = Arch.AMD64) -> tuple[Artifact, ...]:
    """Write the archives into `place`, each with its .sha256sum beside it; what a lock says of them."""
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for name, sources in programs.items():
        made = packed(name, {key: source.read_bytes() for key, source in sources.items()}, VERSIONS[name], arch)
        for file, content in made.files.items():
            (place / file).write_bytes(content)
        found.append(made.artifact)
    return tuple(found)


def lock_of(*artifacts: Artifact, serial: int = SERIAL) -> bytes:
    """A lock of these that has not expired, as an operator would give it to a fleet."""
    return render(Lock(serial, MADE, MADE + timedelta(days=36500), "0.1.0", artifacts))


def write_lock(place: Path, *artifacts: Artifact, serial: int = SERIAL) -> Path:
    """The same in a file, in `place`."""
    path = place / LOCK_NAME
    path.write_bytes(lock_of(*artifacts, serial=serial))
    return path


def read_lock(place: Path) -> Lock:
    """The lock that `write_lock` has put there."""
    return parse((place / LOCK_NAME).read_bytes(), LOCK_NAME)


@dataclass(frozen=True)
class Packed:
    """A release of one artifact."""

    artifact: Artifact
    """What a lock says of it."""
    files: Mapping[str, bytes]
    """The archive and its .sha256sum, by their names."""


def packed(name: ArtifactName, programs: Mapping[str, bytes], version: str, arch: Arch = Arch.AMD64) -> Packed:
    """As upstream packs it: one directory, with what nobody takes out too."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _fill(tar, FOLDERS[name], programs)
    archive = gzip.compress(made.getvalue(), compresslevel=1, mtime=0)  # level 1: quick
    digest = hashlib.sha256(archive).hexdigest()
    held = tuple(Program(key, len(one), hashlib.sha256(one).hexdigest()) for key, one in programs.items())
    url = _URLS[name].format(version=version, arch=arch)
    artifact = Artifact(name, version, arch, url, len(archive), digest, held)
    file = artifact.archive
    return Packed(artifact, {file: archive, f"{file}.sha256sum": f"{digest}  {file}\n".encode()})


def _fill(tar: tarfile.TarFile, folder: str, programs: Mapping[str, bytes]) -> None:
    _add_directory(tar, folder)
    if folder == FOLDERS[ArtifactName.NYDUS]:
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
