"""The lock file: of which upstream archives packages may be made, to the byte. PURE.

Upstream signs nothing; it has one .sha256sum beside each archive. So what an operator has seen once is pinned
here: size and sha256 of each archive, and of each program in it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from agent.config.fields import Complaints, build, read_table, spell
from agent.config.forms import Form
from agent.config.model import required, setting
from agent.errors import ProgramsError
from agent.facts.node import Arch
from agent.programs.versions import ProgramName, Project, order

FORMAT = 1
LOCK_CAP = 1 << 20
"""Bytes of a lock file at most; one release for two architectures has 1,000."""
ARCHIVE_CAP = 512 << 20
"""Bytes of an archive at most, and of all that is in it: nydus' has 40 MB, and 110 unpacked."""
ARCHITECTURES = (Arch.AMD64, Arch.ARM64)
_LATEST = 1 << 35
"""Seconds since 1970: beyond it tar and ar have no room for a time."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program of an archive."""

    name: ProgramName = required("the program's name")
    size: int = required("its bytes", low=1, high=ARCHIVE_CAP)
    sha256: str = required("their digest", form=Form.SHA256)


@dataclass(frozen=True, slots=True)
class Release:
    """One archive of one release for one architecture."""

    project: Project = required("what was released")
    version: str = required("the release's tag, without its v", form=Form.RELEASE)
    arch: Arch = required("amd64 or arm64")
    url: str = required("where the archive is", form=Form.ARCHIVE_URL)
    size: int = required("the archive's bytes", low=1, high=ARCHIVE_CAP)
    sha256: str = required("their digest", form=Form.SHA256)
    source_date_epoch: int = required(
        "when it was pinned, in seconds since 1970; every file in the package has this time",
        low=0,
        high=_LATEST,
    )
    programs: tuple[Program, ...] = required("one table per program")

    def __str__(self) -> str:
        return f"{self.project} {self.version} ({self.arch})"

    @property
    def package(self) -> str:
        """The name of its package."""
        return self.project.package(self.version)

    @property
    def key(self) -> tuple[Project, str, Arch]:
        """What a lock has once."""
        return self.project, self.version, self.arch


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock file."""

    release: tuple[Release, ...] = setting((), "one table per archive")


def parse(content: bytes, path: str) -> Lock:
    """The lock in `content`, which was read from `path`.

    Raises ProgramsError NNA1101 with every problem at once.
    """
    tree = _toml(content, path)
    complaints = Complaints(path)
    if (version := tree.pop("version", None)) != FORMAT:
        complaints.add("version", version, "is a format that is not known here", f"write version = {FORMAT}")
    lock = cast("Lock", build(Lock, read_table(Lock, tree, complaints)))
    _check(lock, complaints)
    if complaints.problems:
        count = len(complaints.problems)
        what = f"{path} is wrong ({count} problem{'s' if count > 1 else ''}), nothing was made"
        raise ProgramsError("NNA1101", what, problems=tuple(complaints.problems))
    return lock


def _toml(content: bytes, path: str) -> dict[str, object]:
    try:
        if len(content) > LOCK_CAP:
            raise ValueError(f"it is longer than {LOCK_CAP >> 20} MiB")
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8 and not TOML are ValueErrors
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ProgramsError("NNA1101", f"{path} is not a lock file", cause=cause) from None


def _check(lock: Lock, complaints: Complaints) -> None:
    """What no single value shows."""
    seen: dict[object, int] = {}
    for index, one in enumerate(lock.release):
        key = f"release[{index}]"
        if one.arch not in ARCHITECTURES:
            complaints.add(f"{key}.arch", one.arch, "is not one of the choices", 'write "amd64" or "arm64"')
        names = [program.name for program in one.programs]
        if sorted(names) != sorted(one.project.programs):
            action = f"name {', '.join(one.project.programs)}, each once"
            complaints.add(f"{key}.programs", names, f"is not what {one.project} has", action)
        if seen.setdefault(one.key, index) != index:
            complaints.add(key, str(one), f"is there already, as release[{seen[one.key]}]", "keep one")


def render(lock: Lock) -> bytes:
    """The file that `parse` reads back to the same lock."""
    lines = [f"version = {FORMAT}"]
    for one in lock.release:
        lines += ["", "[[release]]", *_lines(one, "project", "version", "arch", "url", "size", "sha256")]
        lines += _lines(one, "source_date_epoch")
        for program in one.programs:
            lines += ["", "[[release.programs]]", *_lines(program, "name", "size", "sha256")]
    return ("\n".join(lines) + "\n").encode()


def _lines(one: Release | Program, *names: str) -> list[str]:
    return [f"{name} = {spell(getattr(one, name))}" for name in names]


def merged(before: Lock, seen: Sequence[Release], path: str) -> Lock:
    """What was pinned in `path` before, with what was seen now.

    An entry that is there stays as it is, so that its package keeps its bytes.
    Raises ProgramsError NNA1115 where a release has another archive now.
    """
    pinned = {one.key: one for one in before.release}
    for one in seen:
        there = pinned.setdefault(one.key, one)
        if there.sha256 != one.sha256:
            raise ProgramsError(
                "NNA1115", f"{one} is not what was pinned before", cause=f"{path} pins other bytes",
                seen=(f"pinned: {there.sha256}", f"now: {one.sha256}"),
            )  # fmt: skip
    return Lock(tuple(sorted(pinned.values(), key=lambda one: (one.project, order(one.version), one.arch))))


def select(lock: Lock, versions: Mapping[Project, str], arches: Collection[Arch]) -> tuple[Release, ...]:
    """The releases that are named; where no version or no architecture is named, those of all of them.

    Raises ProgramsError NNA1101 with what the lock does pin.
    """
    fitting = [one for one in lock.release if not arches or one.arch in arches]
    named = [one for one in fitting if not versions or versions.get(one.project) == one.version]
    known = {one.project for one in named}
    absent = [f"{project} {version}" for project, version in versions.items() if project not in known]
    if named and not absent:
        return tuple(named)
    what = " and ".join(absent) or "release"
    where = f" for {' or '.join(sorted(arches))}" if arches else ""
    raise ProgramsError(
        "NNA1101", f"the lock pins no {what}{where}", cause="" if lock.release else "it is empty",
        seen=tuple(map(str, lock.release)),
    )  # fmt: skip
