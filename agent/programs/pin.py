"""Pin what upstream's release holds now, and keep the lock file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.programs import archive, download, lock, versions
from agent.programs.lock import ARCHIVE_CAP, LOCK_CAP, Lock, Release
from agent.programs.release import Project, numbers


def pin(
    project: Project, version: str, arch: Arch, source: str, now: float, each: Callable[[int], None]
) -> Release:
    """What the lock is to say of a release. Its archive is fetched, and held against the .sha256sum beside
    it.

    `source`: see `download.place_of`; `now` is in seconds since 1970; `each` hears of bytes.
    Raises ProgramsError NNA1101 (known not to work), NNA1111 (the way there), NNA1115 (what is in
    the archive), NNA1115 (its checksum), and OSError where nothing can be written.
    """
    _check_version(project, version)
    url = project.url(version, arch)
    place = download.place_of(url, source)
    wanted = download.fetch_checksum(url, source)
    with TemporaryDirectory(prefix="nydus-programs-") as work:
        packed = Path(work, url.rpartition("/")[2])
        fetched = download.fetch(place, packed, ARCHIVE_CAP, each)
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
