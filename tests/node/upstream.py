"""Archives as upstream releases its programs, made of those that the tests have built, and their lock.

nydus-static-vX-linux-ARCH.tgz has one directory `nydus-static` with the programs and `configs`;
nydus-snapshotter-vX-linux-ARCH.tar.gz has `bin` (both as of their release workflows in 2026).
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.artifacts.lock import Artifact, ArtifactName, Lock, Program, parse, render
from agent.node.facts import Arch
from tests.node import cache
from tests.node.layout import digest_of

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
    return tuple(_archive(place, name, arch, held) for name, held in programs.items())


def write_lock(place: Path, *artifacts: Artifact, serial: int = SERIAL) -> Path:
    """A lock of these artifacts that has not expired, in `place`."""
    path = place / LOCK_NAME
    path.write_bytes(render(Lock(serial, MADE, MADE + timedelta(days=36500), "0.1.0", artifacts)))
    return path


def read_lock(place: Path) -> Lock:
    """The lock that `write_lock` has put there."""
    return parse((place / LOCK_NAME).read_bytes(), LOCK_NAME)


def _archive(place: Path, name: ArtifactName, arch: Arch, programs: Mapping[str, Path]) -> Artifact:
    version = VERSIONS[name]
    url = _URLS[name].format(version=version, arch=arch)
    path = place / url.rpartition("/")[2]
    with (
        open(path, "wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,  # level 1: quick
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        _fill(tar, FOLDERS[name], programs)
    digest = digest_of(path)
    path.with_name(f"{path.name}.sha256sum").write_text(f"{digest}  {path.name}\n")
    held = tuple(Program(key, source.stat().st_size, digest_of(source)) for key, source in programs.items())
    return Artifact(name, version, arch, url, path.stat().st_size, digest, held)


def _fill(tar: tarfile.TarFile, folder: str, programs: Mapping[str, Path]) -> None:
    _add_directory(tar, folder)
    if folder == FOLDERS[ArtifactName.NYDUS]:
        _add_directory(tar, f"{folder}/configs")
        _add(tar, f"{folder}/configs/nydusd-config.json", b"{}\n", 0o644)
    for name, source in programs.items():
        _add(tar, f"{folder}/{name}", source.read_bytes(), 0o755)


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
