"""What stands in for the release host: upstream's archives in upstream's layout, made of the programs that we build."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.artifacts import lock
from agent.artifacts.lock import Artifact, ArtifactName, Lock, Program
from agent.node.facts import Arch
from tests.node import cache, upstream
from tests.node.boot import Node

PLACE = "/srv/releases"
PORT = 8090
URL = f"http://127.0.0.1:{PORT}"
REAL_NYDUSD = "/usr/local/libexec/nydusd.real"

_ARCHIVES = {ArtifactName.NYDUS: "nydus-static-{}-linux-amd64.tgz",
             ArtifactName.SNAPSHOTTER: "nydus-snapshotter-{}-linux-amd64.tar.gz"}  # fmt: skip
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


def archive(name: ArtifactName, programs: Mapping[str, bytes]) -> bytes:
    """As upstream packs it: one directory, with what nobody takes out too."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        _add(tar, f"{upstream.FOLDERS[name]}/configs/README", b"not a program\n", 0o644)
        for program, content in programs.items():
            _add(tar, f"{upstream.FOLDERS[name]}/{program}", content, 0o755)
    return gzip.compress(packed.getvalue(), compresslevel=1, mtime=0)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def publish(node: Node, name: ArtifactName, version: str, programs: Mapping[str, bytes]) -> Artifact:
    """Put a release and its checksum where the server, or nobody, finds them; the entry that a lock has of it."""
    packed, file = archive(name, programs), _ARCHIVES[name].format(version)
    digest = hashlib.sha256(packed).hexdigest()
    node.write(f"{PLACE}/{file}", packed)
    node.write(f"{PLACE}/{file}.sha256sum", f"{digest}  {file}\n")
    held = tuple(Program(key, len(one), hashlib.sha256(one).hexdigest()) for key, one in programs.items())
    return Artifact(name, version, Arch.AMD64, f"https://github.com/{file}", len(packed), digest, held)


def locked(*artifacts: Artifact, serial: int) -> bytes:
    """A lock of these that an operator would give to a fleet."""
    now = datetime.now(UTC)
    return lock.render(Lock(serial, now - timedelta(hours=1), now + timedelta(days=90), "0.1.0", artifacts))
