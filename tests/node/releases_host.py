"""What stands in for the release host on a node: releases of any version, of programs that we build or
changed ones; and their packages, made on the node by our own verb.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from agent.programs.lock import Lock, Release, render
from agent.programs.versions import Project
from tests.node import cache, upstream
from tests.node.boot import Node

PLACE = "/srv/releases"
PACKAGES = "/srv/packages"
REAL_NYDUSD = "/usr/local/libexec/nydusd.real"

_BROKEN = """\
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return puts("Version: \\tv2.2.3\\nGit Commit: \\tabc") == EOF;
    fputs("ERROR this build does not work here\\n", stderr);
    return 1;
}
"""


def nydus(node: Node, build: bytes = b"") -> dict[str, bytes]:
    """nydusd and nydus-image; another `build` has other bytes and does the same (what follows an ELF file's
    sections is not looked at). Where the machine needs the wrapper, that is what is released, and nydusd
    itself lies on the node.
    """
    made = cache.make("nydus") / "bin"
    nydusd = (made / "nydusd").read_bytes()
    if not node.machine.sys_resource:
        if not node.exists(REAL_NYDUSD):
            node.push(made / "nydusd", REAL_NYDUSD)
        nydusd = (cache.make("wrapper") / "bin/nydusd").read_bytes()
    return {
        "nydusd": nydusd + build,
        "nydus-image": (made / "nydus-image").read_bytes(),
        "nydusctl": b"#!/bin/sh\n",
    }


def snapshotter() -> dict[str, bytes]:
    return {"containerd-nydus-grpc": (cache.make("snapshotter") / "bin/containerd-nydus-grpc").read_bytes()}


def broken(work: Path) -> bytes:
    """A nydusd that tells its version and does nothing else."""
    (work / "broken.c").write_text(_BROKEN)
    subprocess.run(["gcc", "-O2", "-static", "-o", "broken", "broken.c"], cwd=work, check=True, timeout=60)
    return (work / "broken").read_bytes()


def publish(node: Node, project: Project, version: str, programs: Mapping[str, bytes]) -> Release:
    """Put a release and its checksum into PLACE; the entry that a lock has of it."""
    made = upstream.packed(project, programs, version)
    for file, content in made.files.items():
        node.write(f"{PLACE}/{file}", content)
    return made.release


def package(node: Node, *releases: Release) -> list[str]:
    """Make the packages of published releases on the node, as an operator does; their paths."""
    node.run(["mkdir", "--parents", PACKAGES])
    node.write(f"{PACKAGES}/{upstream.LOCK_NAME}", render(Lock(releases)))
    options = ["--lock", f"{PACKAGES}/{upstream.LOCK_NAME}", "--from", PLACE, "--output", PACKAGES]
    node.run(["nydus-agent", "programs", "package", *options], timeout=300)
    found = [f"{PACKAGES}/{one.package}_{one.version}_{one.arch}.deb" for one in releases]
    assert all(map(node.exists, found)), found
    return found


def install(node: Node, project: Project, version: str, programs: Mapping[str, bytes]) -> str:
    """Publish a release, make its package and install that by apt; the package's name."""
    release = publish(node, project, version, programs)
    node.apt("install", *package(node, release))
    return release.package
