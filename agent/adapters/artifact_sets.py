"""Making and mending one set in the open directory of a store.

A set is made below a temporary name, brought to the disk, and gets its name by one rename. A name says what bytes the
set has, so a damaged one can be mended piece by piece: whatever of two runs it consists of, it is the same set.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from functools import partial

from agent.adapters.artifact_copy import Copier, in_parallel, stamp_of
from agent.adapters.artifact_files import (
    directory,
    link_target,
    make_directory,
    need_directory,
    put,
    read_small,
    remove_others,
    remove_tree,
    told,
    write_new,
)  # fmt: skip
from agent.adapters.artifact_verify import flaws, link_of
from agent.adapters.walk import sync_directory
from agent.artifacts.lock import PROGRAMS, RECORD
from agent.artifacts.selection import Member
from agent.artifacts.sets import InstalledSet, Stamp, read_record, record
from agent.config.forms import is_set_id
from agent.ports_artifacts import Flaw, FlawKind

TEMPORARY = ".new-"
"""How names begin that nobody looks at."""
_RECORD_CAP = 1 << 16
_NO_RECORD = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EFBIG)
"""Nothing is there, or something that is no file of ours: what installing again replaces."""
_MENDED = (FlawKind.FOREIGN, FlawKind.REPLACED)


def temporary() -> str:
    """A new name that nobody looks at."""
    return f"{TEMPORARY}{os.urandom(8).hex()}"


@contextlib.contextmanager
def passing(store: int) -> Iterator[str]:
    """Such a name, for as long as the block lasts: what still has it then goes.

    What made the block fail may forbid this too; the next run tidies up, and the first error is the one to tell.
    """
    name = temporary()
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            remove_tree(name, store)


def recorded(name: str, store: int, path: str) -> tuple[InstalledSet, dict[str, Stamp]] | None:
    """The set of that name by its record; None: it is not there, or its record cannot be used. Raises OSError."""
    if not is_set_id(name):
        return None
    try:
        with directory(name, store) as place:
            content = read_small(RECORD, place, _RECORD_CAP)
    except OSError as error:
        if error.errno in _NO_RECORD:
            return None
        raise
    return None if content is None else read_record(content, name, path)


def make(store: int, wanted: InstalledSet, members: Sequence[Member], staged: str) -> None:
    """Copy the programs from `staged`, and bring the set into being. Raises ArtifactError and OSError."""
    with passing(store) as name:
        make_directory(name, store)
        with directory(name, store) as place:
            make_directory(PROGRAMS, place)
            stamps = _copied(members, staged, place, wanted.directory)
            for program in wanted.programs:
                os.symlink(link_of(program.name), program.name, dir_fd=place)
            write_new(RECORD, place, record(wanted, stamps), 0o644)
            os.fsync(place)
        _appear(store, name, wanted)


def _copied(members: Sequence[Member], staged: str, place: int, where: str) -> dict[str, Stamp]:
    largest_first = sorted(members, key=lambda member: -member.program.size)
    with contextlib.ExitStack() as stack:
        with told("take over", staged, "NNA1138"):
            source = stack.enter_context(directory(staged))
        target = stack.enter_context(directory(PROGRAMS, place))
        copier = Copier(source, staged, target, f"{where}/{PROGRAMS}")
        stamps = in_parallel([partial(copier.copy, member) for member in largest_first])
        os.fsync(target)
    return {member.program.name: stamp for member, stamp in zip(largest_first, stamps, strict=True)}


def _appear(store: int, name: str, wanted: InstalledSet) -> None:
    """Give the finished set its name; where a damaged one has it, put each piece in the place of its own."""
    try:
        os.rename(name, wanted.id, src_dir_fd=store, dst_dir_fd=store)
    except OSError:
        if wanted.id not in os.listdir(store):
            raise
        _replace_pieces(store, name, wanted)
    sync_directory(store)


def _replace_pieces(store: int, name: str, wanted: InstalledSet) -> None:
    names = [program.name for program in wanted.programs]
    need_directory(wanted.id, store)
    with directory(name, store) as new, directory(wanted.id, store) as old:
        need_directory(PROGRAMS, old)
        with directory(PROGRAMS, new) as source, directory(PROGRAMS, old) as target:
            for piece in names:
                put(piece, target, piece, source)
            remove_others(names, target)
            os.fsync(target)
        for piece in (*names, RECORD):
            put(piece, old, piece, new)
        remove_others((*names, RECORD, PROGRAMS), old)
        os.fsync(old)


def mend(store: int, installed: InstalledSet) -> bool:
    """Put links and record back and take away what is not ours; False: a program must be fetched again.

    Nothing was done then. Raises OSError.
    """
    names = [program.name for program in installed.programs]
    with directory(installed.id, store) as place:
        if any(_needs_bytes(flaw, installed) for flaw in flaws(place, installed)):
            return False
        with directory(PROGRAMS, place) as programs:
            stamps = {name: stamp_of(os.stat(name, dir_fd=programs, follow_symlinks=False)) for name in names}
            remove_others(names, programs)
        for name in names:
            if link_target(name, place) != link_of(name):
                relink(store, name, place, link_of(name))
        remove_others((*names, RECORD, PROGRAMS), place)
        replace(store, RECORD, place, record(installed, stamps))
    return True


def _needs_bytes(flaw: Flaw, installed: InstalledSet) -> bool:
    """Whether a flaw is in a program itself: one whose rights were wrong may have been written to this moment."""
    is_link = flaw.kind is FlawKind.MISSING and not flaw.path.startswith(f"{installed.directory}/{PROGRAMS}")
    return flaw.kind not in _MENDED and not is_link


def replace(store: int, name: str, within: int, content: bytes) -> None:
    """Write a small file anew, by one rename; it is on the disk when this returns."""
    with passing(store) as made:
        write_new(made, store, content, 0o644)
        put(name, within, made, store)
    sync_directory(within)


def relink(store: int, name: str, within: int, target: str) -> None:
    """Let a link lead to `target`, by one rename."""
    with passing(store) as made:
        os.symlink(target, made, dir_fd=store)
        put(name, within, made, store)
