"""Whether a set is as it was installed: at a glance, or by reading every byte of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from functools import partial

from agent.adapters.artifact_copy import MODE, hashed, in_parallel, stamp_of
from agent.adapters.artifact_files import directory, link_target
from agent.artifacts.lock import PROGRAMS, RECORD, Program
from agent.artifacts.sets import InstalledSet, Stamp
from agent.ports_artifacts import Flaw, FlawKind


def link_of(program: str) -> str:
    """Where the link of a program leads, seen from the set's directory."""
    return f"{PROGRAMS}/{program}"


def is_untouched(place: int, installed: InstalledSet, stamps: Mapping[str, Stamp]) -> bool:
    """Whether each program's file is the one that was written, by size, time and inode, and each link is ours.

    `place` is the set's open directory. Reads nothing.
    """
    names = {program.name for program in installed.programs}
    try:
        with directory(PROGRAMS, place) as programs:
            alone = _is_roots(place) and _is_roots(programs)
            known = set(os.listdir(programs)) == names and set(os.listdir(place)) == {PROGRAMS, RECORD, *names}
            return (
                alone
                and known
                and all(
                    _is_known(os.stat(program.name, dir_fd=programs, follow_symlinks=False), stamps[program.name])
                    and link_target(program.name, place) == link_of(program.name)
                    for program in installed.programs
                )
            )
    except OSError:
        return False


def _is_roots(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def _is_known(status: os.stat_result, stamp: Stamp) -> bool:
    return not _wrong_rights(status) and stamp_of(status) == stamp


def _wrong_rights(status: os.stat_result) -> str:
    """Why others could change a program, or it cannot run; "" where nothing is wrong."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {status.st_uid}"
    if stat.S_IMODE(status.st_mode) != MODE:
        return f"its mode is {stat.S_IMODE(status.st_mode):04o} and not {MODE:04o}"
    return "it has another name too" if status.st_nlink != 1 else ""


def flaws(place: int, installed: InstalledSet) -> tuple[Flaw, ...]:
    """Everything that is wrong with a set, its programs read again. `place` is its open directory. Raises OSError."""
    where = installed.directory
    try:
        with directory(PROGRAMS, place) as programs:
            if not (_is_roots(place) and _is_roots(programs)):
                return (Flaw(FlawKind.RIGHTS, where, "others than root can write to it"),)
            found = [flaw for flaw in _programs(programs, installed) if flaw is not None]
            found += _foreign(programs, {program.name for program in installed.programs}, f"{where}/{PROGRAMS}")
    except (FileNotFoundError, NotADirectoryError):
        found = [Flaw(FlawKind.MISSING, f"{where}/{PROGRAMS}", "it is not there, or no directory")]
    found += _links(place, installed)
    ours = {PROGRAMS, RECORD, *(program.name for program in installed.programs)}
    return (*found, *_foreign(place, ours, where))


def _programs(programs: int, installed: InstalledSet) -> list[Flaw | None]:
    where = f"{installed.directory}/{PROGRAMS}"
    return in_parallel([partial(_program, programs, program, where) for program in installed.programs])


def _program(programs: int, program: Program, where: str) -> Flaw | None:
    path = f"{where}/{program.name}"
    try:
        status = os.stat(program.name, dir_fd=programs, follow_symlinks=False)
        wrong = _wrong_rights(status)
        if wrong:
            return Flaw(FlawKind.RIGHTS, path, wrong)
        if status.st_size != program.size:
            return Flaw(FlawKind.CHANGED, path, f"it has {status.st_size} bytes and not {program.size}")
        digest = hashed(program.name, programs)
    except FileNotFoundError:
        return Flaw(FlawKind.MISSING, path, "it is not there")
    if digest != program.sha256:
        return Flaw(FlawKind.CHANGED, path, f"its sha256 is {digest} and not {program.sha256}")
    return None


def _links(place: int, installed: InstalledSet) -> Iterator[Flaw]:
    there = set(os.listdir(place))
    for program in installed.programs:
        path, target = f"{installed.directory}/{program.name}", link_target(program.name, place)
        if program.name not in there:
            yield Flaw(FlawKind.MISSING, path, "the link is not there")
        elif target != link_of(program.name):
            instead = f"it leads to {target}" if target else "it is a file of its own"
            yield Flaw(FlawKind.REPLACED, path, f"{instead}, not to {link_of(program.name)}")


def _foreign(within: int, ours: set[str], where: str) -> Iterator[Flaw]:
    for name in sorted(set(os.listdir(within)) - ours):
        yield Flaw(FlawKind.FOREIGN, f"{where}/{name}", "it was not installed with this set")
