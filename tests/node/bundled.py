"""The package nydus-node-agent-artifacts, as an operator builds it from a lock and archives."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from agent.artifacts.lock import ArtifactName
from agent.node.facts import Arch
from tests.node import scene, upstream

NAME = "nydus-node-agent-artifacts"


def build(
    place: Path, contents: upstream.Contents | None = None, *, arch: Arch = Arch.AMD64, serial: int = upstream.SERIAL
) -> Path:
    """A release of these programs (this machine's builds unless others are given), its lock and the package of both.

    All of it lies below `place` afterwards, archives and lock in its directory `release`.
    """
    release = place / "release"
    artifacts = upstream.release(release, contents or upstream.built(), arch)
    lock = upstream.write_lock(release, *artifacts, serial=serial)
    made = make(lock, release, arch)
    if made.returncode != 0:
        raise RuntimeError(f"the package was not built:\n{made.stderr}")
    return Path(shutil.copy(scene.REPOSITORY / made.stdout.strip(), place))


def make(lock: Path, archives: Path, arch: Arch) -> subprocess.CompletedProcess[str]:
    """What `make deb-bundle` runs, for one architecture; the package's path, from the checkout, is its output."""
    return subprocess.run(
        ["packaging/build-deb-bundle"],
        env={**os.environ, "LOCK": str(lock), "ARCHIVES": str(archives), "ARCH": str(arch)}, cwd=scene.REPOSITORY,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


def others(place: Path) -> upstream.Contents:
    """This machine's builds with a byte more at their ends, which changes nothing but their digests."""
    place.mkdir(parents=True, exist_ok=True)
    changed: dict[ArtifactName, dict[str, Path]] = {}
    for name, programs in upstream.built().items():
        changed[name] = {}
        for program, source in programs.items():
            (place / program).write_bytes(source.read_bytes() + b"\n")
            changed[name][program] = place / program
    return changed
