#!/usr/bin/python3
"""Lays out what nydus-node-agent-artifacts is built from: its debian directory, the lock, the archives.

Everything is held against the lock here: size and sha256 of each archive, and of each program in it, so that no package
is made which no node would install. The programs are read, never unpacked.
"""

from __future__ import annotations

import argparse
import dataclasses
import email.utils
import hashlib
import shutil
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.artifacts import bundle
from agent.artifacts.lock import Artifact, Lock, Program, parse, render
from agent.errors import AgentError
from agent.node.facts import Arch

HERE = Path(__file__).resolve().parent
PACKAGE = "nydus-node-agent-artifacts"
LIMIT = 256 << 20
"""Bytes of all archives together: three times what upstream has released so far. More is a mistake in the lock."""
MAINTAINER = "The nydus-node-agent authors <nydus-node-agent@example.org>"


class WrongError(Exception):
    """An archive is not what the lock says; the message says how."""


def main() -> int:
    """Exit code 1 where no package can be made of this."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument(
        "archives", type=Path, help="a directory with the archives, under the names they were released with"
    )
    parser.add_argument("arch", choices=[Arch.AMD64.value, Arch.ARM64.value])
    parser.add_argument("target", type=Path, help="a directory that is not there yet")
    options = parser.parse_args()
    try:
        lock = parse(options.lock.read_bytes(), str(options.lock))
        chosen = bundle.for_architectures(lock, [Arch(options.arch)])
        lay_out(dataclasses.replace(lock, artifacts=chosen), options.archives, options.target)
    except (AgentError, WrongError, OSError, tarfile.TarError) as error:
        print(f"{options.arch}: {error}", *getattr(error, "seen", ()), sep="\n  ", file=sys.stderr)
        return 1
    return 0


def lay_out(lock: Lock, archives: Path, target: Path) -> None:
    """Raises WrongError, OSError and tarfile.TarError; the target is not complete then."""
    together = sum(artifact.size for artifact in lock.artifacts)
    if together > LIMIT:
        raise WrongError(f"the archives are {together} bytes together, {LIMIT} at most")
    shutil.copytree(HERE / "debian", target / "debian")
    shutil.copy(HERE / "10-artifacts.toml", target)
    (target / bundle.LOCK_MEMBER).write_bytes(render(lock))
    (target / "debian/changelog").write_text(changelog(lock))
    (target / "archives").mkdir()
    for artifact in lock.artifacts:
        source = archives / artifact.archive
        check(source, artifact)
        shutil.copyfile(source, target / "archives" / artifact.archive)


def changelog(lock: Lock) -> str:
    """The package's version is the lock's serial, its time the lock's: the same lock makes the same package."""
    inside = "\n".join(f"  * {artifact.name} {artifact.version}" for artifact in lock.artifacts)
    at = email.utils.format_datetime(lock.made)
    return f"{PACKAGE} ({lock.serial}) unstable; urgency=medium\n\n{inside}\n\n -- {MAINTAINER}  {at}\n"


def check(path: Path, artifact: Artifact) -> None:
    """Raises WrongError where the archive, or a program in it, is not the lock's."""
    with open(path, "rb") as file:
        seen = (path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    if seen != (artifact.size, artifact.sha256):
        raise WrongError(f"{path} is not the lock's {artifact}: {seen[0]} bytes, sha256 {seen[1]}")
    wanted = {program.name: program for program in artifact.programs}
    found = _programs(path, frozenset(wanted))
    wrong = sorted(name for name in wanted if found.get(name) != wanted[name])
    if wrong:
        raise WrongError(f"{path} does not hold these programs as the lock has them: {', '.join(wrong)}")


def _programs(path: Path, names: frozenset[str]) -> dict[str, Program]:
    found: dict[str, Program] = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            content = archive.extractfile(member) if name in names and member.isreg() else None
            if content is not None:
                found[name] = Program(name, member.size, hashlib.file_digest(content, "sha256").hexdigest())
    return found


if __name__ == "__main__":
    sys.exit(main())
