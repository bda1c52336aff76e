"""Packages of programs that this machine makes by our own verb, in the build root, for either
architecture.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from agent.facts.node import Arch
from agent.programs.versions import Project
from tests.node import cache, scene, upstream

Contents = Mapping[Project, Mapping[str, bytes]]
"""The programs of each project by their names."""


def built() -> Contents:
    """The programs for this machine's architecture, made now where they are not in the cache."""
    return contents(cache.make("nydus") / "bin", cache.make("snapshotter") / "bin")


def contents(nydus: Path, snapshotter: Path) -> Contents:
    """What a release holds of these directories' programs."""
    places = {Project.NYDUS: nydus, Project.SNAPSHOTTER: snapshotter}
    return {
        project: {name: (at / name).read_bytes() for name in project.programs}
        for project, at in places.items()
    }


def make(
    name: str, programs: Contents, arch: Arch, versions: Mapping[Project, str] = upstream.VERSIONS
) -> list[Path]:
    """Release these programs, and make the packages. Raises RuntimeError with what the verb said."""
    place = scene.REPOSITORY / "build/test-programs" / name
    done, made = attempt(name, programs, arch, versions)
    if done.returncode != 0:
        raise RuntimeError(f"{place}: no packages were made:\n{done.stderr}")
    return made


def attempt(
    name: str, programs: Contents, arch: Arch, versions: Mapping[Project, str] = upstream.VERSIONS
) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    """The same: how the verb ended, and what its packages would be called."""
    place = scene.REPOSITORY / "build/test-programs" / name  # the build root sees the checkout alone
    shutil.rmtree(place, ignore_errors=True)
    releases = [
        upstream.packed(project, held, versions[project], arch).lay(place)
        for project, held in programs.items()
    ]
    upstream.write_lock(place, *releases)
    inside = f"/src/{place.relative_to(scene.REPOSITORY)}"
    options = ["--lock", f"{inside}/{upstream.LOCK_NAME}", "--from", inside, "--output", inside]
    done = subprocess.run(
        ["tests/in-root", "python3", "-m", "agent", "programs", "package", *options],
        env={**os.environ, "IN_ROOT_NET": "none"}, cwd=scene.REPOSITORY,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    return done, [place / f"{one.package}_{one.version}_{one.arch}.deb" for one in releases]
