"""What stands in for the release host on a node: releases of any version, of programs that we build or changed ones."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from agent.artifacts.lock import Artifact, ArtifactName
from tests.node import cache, upstream
from tests.node.boot import Node

PLACE = "/srv/releases"
PORT = 8090
URL = f"http://127.0.0.1:{PORT}"
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
    """nydusd and nydus-image; another `build` has other bytes and does the same (what follows an ELF file's sections is
    not looked at). Where the machine needs the wrapper, that is what is released, and nydusd itself lies on the node.
    """
    made = cache.make("nydus") / "bin"
    nydusd = (made / "nydusd").read_bytes()
    if not node.machine.sys_resource:
        if not node.exists(REAL_NYDUSD):
            node.push(made / "nydusd", REAL_NYDUSD)
        nydusd = (cache.make("wrapper") / "bin/nydusd").read_bytes()
    image = (made / "nydus-image").read_bytes()
    return {"nydusd": nydusd + build, "nydus-image": image, "nydusctl": image + b"nydusctl"}


def snapshotter() -> dict[str, bytes]:
    return {"containerd-nydus-grpc": (cache.make("snapshotter") / "bin/containerd-nydus-grpc").read_bytes()}


def broken(work: Path) -> bytes:
    """A nydusd that tells its version and does nothing else."""
    (work / "broken.c").write_text(_BROKEN)
    subprocess.run(["gcc", "-O2", "-static", "-o", "broken", "broken.c"], cwd=work, check=True, timeout=60)
    return (work / "broken").read_bytes()


def publish(node: Node, name: ArtifactName, version: str, programs: Mapping[str, bytes]) -> Artifact:
    """Put a release and its checksum where the server, or nobody, finds them; the entry that a lock has of it."""
    made = upstream.packed(name, programs, version)
    for file, content in made.files.items():
        node.write(f"{PLACE}/{file}", content)
    return made.artifact
