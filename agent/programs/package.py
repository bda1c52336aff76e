"""Make the Debian package of a release: fetch, hold against the lock, unpack, pack. Any user may do that.

The same lock gives the same bytes wherever dpkg-deb and zlib are the same. Every file has the time of the
lock's entry, and dpkg-deb gets it as SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import hashlib
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.errors import ProcessError, ProgramsError
from agent.facts.node import Arch
from agent.ports import Processes
from agent.programs import archive, lock, versions
from agent.programs.lock import ARCHIVE_CAP, LOCK_CAP, Lock, Release
from agent.programs.versions import NAMED_IN, ProgramName, Project, numbers

_PACK_S = 600.0
_EXECUTABLE = frozenset({"prerm", *ProgramName})

_PRERM = """\
#!/bin/sh
set -e

# Said, and not refused: what runs goes on, and the next "nydus-agent apply" takes another version.
if [ "$1" = remove ] && grep -qsF "{directory}/" {users}; then
    echo "{package}: this node is set up with these programs. Containers that run go on." >&2
    echo "{package}: New ones need another version: install one, then run nydus-agent apply." >&2
fi

exit 0
"""
_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {project}
Source: {url}
Comment: The programs are those of the archive as its authors released it, sha256
 {sha256}.

Files: *
Copyright: The {project} authors
License: Apache-2.0

License: Apache-2.0
 On Debian systems, the full text of the Apache License, Version 2.0 can be
 found in the file /usr/share/common-licenses/Apache-2.0.
"""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was made."""

    release: Release
    path: Path
    size: int
    sha256: str


def file_name(release: Release) -> str:
    """What the package's file is called."""
    return f"{release.package}_{_debian_version(release.version)}_{release.arch}.deb"


def make(
    release: Release, source: str, directory: Path, processes: Processes, each: Callable[[int], None]
) -> Package:
    """Make the package of a release in a directory. `source`: see `archive.place_of`; `each` hears of bytes.

    Raises ProgramsError NNA1111 (the way there, packing), NNA1115 (other bytes than the lock pins, or
    what is in the archive).
    """
    if processes.which("dpkg-deb") is None:
        raise ProgramsError("NNA1111", "no package can be made here", cause="there is no dpkg-deb")
    try:
        with TemporaryDirectory(prefix=".programs-", dir=directory) as work:
            made = _make(release, source, Path(work), processes, each)
            final = directory / file_name(release)
            made.chmod(0o644)
            made.replace(final)
            content = final.read_bytes()
            return Package(release, final, len(content), hashlib.sha256(content).hexdigest())
    except OSError as error:
        cause = f"{error.filename or directory}: {error.strerror or error}"
        raise ProgramsError("NNA1111", f"the package of {release} cannot be made", cause=cause) from None
    except ProcessError as error:
        what, cause = f"the package of {release} cannot be made", f"{error.what}: {error.cause}"
        raise ProgramsError("NNA1111", what, cause=cause, seen=error.seen) from None


def _make(
    release: Release, source: str, work: Path, processes: Processes, each: Callable[[int], None]
) -> Path:
    place = archive.place_of(release.url, source)
    packed = work / release.url.rpartition("/")[2]
    fetched = archive.fetch(place, packed, release.size, each)
    if (fetched.size, fetched.sha256) != (release.size, release.sha256):
        raise _not_pinned(place, release, fetched)
    tree = work / "tree"
    programs = tree / release.project.directory(release.version).lstrip("/")
    programs.mkdir(parents=True)
    taken = archive.take(packed, release.project.programs, release.arch, programs)
    if set(taken) != set(release.programs):
        wrong = ", ".join(one.name for one in taken if one not in release.programs)
        what = f"{place} is not what the lock pins"
        raise ProgramsError("NNA1115", what, cause=f"{wrong} in it is another")
    _write_documents(release, tree)
    _settle(tree, release.source_date_epoch)
    return _packed(tree, work / "package.deb", release.source_date_epoch, processes)


def _not_pinned(place: str, release: Release, fetched: archive.Fetched) -> ProgramsError:
    if fetched.size > release.size:
        cause = f"it is longer than {release.size} bytes"
    elif fetched.size < release.size:
        cause = f"it has {fetched.size} bytes instead of {release.size}"
    else:
        cause = "its digest is another"
    seen = (f"pinned: {release.sha256}", f"seen: {fetched.sha256}")
    return ProgramsError("NNA1115", f"{place} is not what the lock pins", cause=cause, seen=seen)


def _write_documents(release: Release, tree: Path) -> None:
    """The copyright, and all that dpkg wants to know."""
    package, directory = release.package, release.project.directory(release.version)
    copyright_ = tree / f"usr/share/doc/{package}/copyright"
    copyright_.parent.mkdir(parents=True)
    copyright_.write_text(_COPYRIGHT.format(project=release.project, url=release.url, sha256=release.sha256))
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(_control(release, sum(path.stat().st_size for path in files)))
    (control / "md5sums").write_text("".join(f"{_md5(path)}  {path.relative_to(tree)}\n" for path in files))
    script = _PRERM.format(package=package, directory=directory, users=" ".join(NAMED_IN))
    (control / "prerm").write_text(script)


def _control(release: Release, size: int) -> str:
    names = " and ".join(release.project.programs)
    about = textwrap.fill(
        f"The programs of {release.project} {release.version} as its authors released them, for "
        "nydus-node-agent. Packages of several versions can be installed beside each other. Installing or "
        'removing one restarts nothing: "nydus-agent apply" takes a version into use and proves it, or goes '
        "back to the one before.",
        width=78,
        initial_indent=" ",
        subsequent_indent=" ",
    )
    return (
        f"Package: {release.package}\n"
        f"Version: {_debian_version(release.version)}\n"
        f"Architecture: {release.arch}\n"
        "Maintainer: The nydus-node-agent authors <nydus-node-agent@example.org>\n"
        f"Installed-Size: {-(-size // 1024)}\n"
        "Section: admin\n"
        "Priority: optional\n"
        "Enhances: nydus-node-agent\n"
        f"Homepage: {release.url.partition('/releases/')[0]}\n"
        f"Description: {names} {release.version}\n"
        f"{about}\n"
    )


def _debian_version(version: str) -> str:
    """2.4.0-rc.1 is older than 2.4.0 (deb-version(7))."""
    return version.replace("-", "~", 1)


def _md5(path: Path) -> str:
    """What dpkg --verify compares; the digests that count are those of the lock."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _settle(tree: Path, epoch: int) -> None:
    """Rights and times, whatever the umask and the clock were."""
    for place, directories, files in os.walk(tree, topdown=False):
        for name in (*files, *directories):
            path = Path(place, name)
            path.chmod(0o755 if name in directories or name in _EXECUTABLE else 0o644)
            os.utime(path, (epoch, epoch))
    tree.chmod(0o755)
    os.utime(tree, (epoch, epoch))


def _packed(tree: Path, package: Path, epoch: int, processes: Processes) -> Path:
    # gzip: xz would take a minute, and its threads decide its bytes.
    pack = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", str(tree), str(package)]
    processes.run(["env", f"SOURCE_DATE_EPOCH={epoch}", *pack], deadline_s=_PACK_S)
    return package


def pin(
    project: Project, version: str, arch: Arch, source: str, now: float, each: Callable[[int], None]
) -> Release:
    """What the lock is to say of a release. Its archive is fetched, and held against the .sha256sum beside
    it.

    `source`: see `archive.place_of`; `now` is in seconds since 1970; `each` hears of bytes.
    Raises ProgramsError NNA1101 (known not to work), NNA1111 (the way there), NNA1115 (what is in
    the archive, or its checksum), and OSError where nothing can be written.
    """
    _check_version(project, version)
    url = project.url(version, arch)
    place = archive.place_of(url, source)
    wanted = archive.fetch_checksum(url, source)
    with TemporaryDirectory(prefix="nydus-programs-") as work:
        packed = Path(work, url.rpartition("/")[2])
        fetched = archive.fetch(place, packed, ARCHIVE_CAP, each)
        if fetched.size > ARCHIVE_CAP:
            cause = f"it is longer than {ARCHIVE_CAP >> 20} MiB"
            raise ProgramsError("NNA1115", f"{place} cannot be used", cause=cause)
        if fetched.sha256 != wanted:
            seen = (f"checksum: {wanted}", f"seen: {fetched.sha256}")
            raise ProgramsError("NNA1115", f"{place} is not what the file beside it says", seen=seen)
        programs = archive.take(packed, project.programs, arch, Path(work))
    return Release(project, version, arch, url, fetched.size, fetched.sha256, int(now), programs)


def _check_version(project: Project, version: str) -> None:
    number = numbers(version)
    wrong = versions.refused(
        versions.Pair(nydus=number) if project is Project.NYDUS else versions.Pair(snapshotter=number)
    )
    if wrong:
        raise ProgramsError("NNA1101", f"{project} {version} does not work here", cause=wrong[0])


def read_lock(path: Path) -> Lock:
    """The lock in a file. Raises ProgramsError NNA1101."""
    try:
        with open(path, "rb") as file:
            content = file.read(LOCK_CAP + 1)
    except OSError as error:
        raise ProgramsError("NNA1101", f"{path} cannot be read", cause=error.strerror or str(error)) from None
    return lock.parse(content, str(path))


def write_lock(path: Path, content: Lock) -> None:
    """Put a lock into its file, as a whole or not at all. Raises OSError."""
    with TemporaryDirectory(prefix=".lock-", dir=path.parent) as work:
        new = Path(work, path.name)
        new.write_bytes(lock.render(content))
        new.chmod(0o644)
        new.replace(path)
