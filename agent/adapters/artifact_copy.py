"""Taking over programs that another user has unpacked: one pass that copies and hashes, several programs at a time.

The bytes that are hashed are the bytes that are written, so it does not matter what their owner does to the file
meanwhile: what is not what the lock pins never gets a name in a set.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import TypeVar

from agent.adapters.artifact_files import directory, opened, told, write_all
from agent.adapters.walk import NEW, READ
from agent.artifacts.selection import Member
from agent.artifacts.sets import Stamp
from agent.errors import ArtifactError
from agent.node.elf import HEADER, architecture
from agent.node.facts import Arch

MODE = 0o555
_BLOCK = 1 << 20
"""Bytes at a time: smaller ones cost calls, larger ones leave the processor's cache before they are hashed."""
_AHEAD = 8 << 20
"""Bytes after which the disk is let begin: 1 MiB costs more calls, 16 leave it idle (measured: 123, 105, 119 ms)."""
_WORKERS = 4

_T = TypeVar("_T")


def in_parallel(jobs: Sequence[Callable[[], _T]]) -> list[_T]:
    """The jobs' results in their order, or the error of the first that failed. hashlib and write(2) release the
    interpreter's lock, so threads use all cores.
    """
    workers = min(_WORKERS, len(os.sched_getaffinity(0)), len(jobs))
    if workers < 2:
        return [job() for job in jobs]
    from concurrent.futures import ThreadPoolExecutor  # it loads logging, and most runs find all in place

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [future.result() for future in futures]


class Copier:
    """Copies programs from `staged` (an open directory; `where` is its path) to the open directory `target`."""

    def __init__(self, staged: int, where: str, target: int, within: str) -> None:
        self._staged = staged
        self._where = where
        self._target = target
        self._within = within
        self._failed: ArtifactError | None = None

    def copy(self, member: Member) -> Stamp:
        """Copy one program until it is on the disk. Raises ArtifactError; then a part of it may be there."""
        try:
            return self._copy(member, f"{self._where}/{member.artifact.name}/{member.program.name}")
        except ArtifactError as error:
            self._failed = self._failed or error  # the others need not end what is of no use any more
            raise

    def _copy(self, member: Member, source: str) -> Stamp:
        program, written = member.program, f"{self._within}/{member.program.name}"
        with (
            told("take over", source, "NNA1138"),
            directory(member.artifact.name, self._staged) as folder,
            opened(program.name, READ, folder) as file,
        ):
            _need_plain(file, source, member)
            with told("write", written), opened(program.name, NEW, self._target) as copy:
                self._pump(file, copy, member, source)
                os.fchmod(copy, MODE)
                os.fsync(copy)
                return stamp_of(os.fstat(copy))

    def _pump(self, file: int, copy: int, member: Member, source: str) -> None:
        digest, rest, sent = hashlib.sha256(), member.program.size, 0
        block = memoryview(bytearray(min(_BLOCK, rest + 1)))
        while (count := _read(file, block, source)) and count <= rest:
            if self._failed is not None:
                raise self._failed
            write_all(copy, block[:count])
            digest.update(block[:count])
            rest -= count
            done = member.program.size - rest
            if done - sent >= _AHEAD:
                _begin_to_write_back(copy, sent, done - sent)
                sent = done
        if rest or count:
            raise _refused("NNA1114", source, member, "it changed its length while it was read")
        if digest.hexdigest() != member.program.sha256:
            seen = f"sha256 {member.program.sha256} is in the lock, {digest.hexdigest()} was unpacked"
            raise _refused("NNA1115", source, member, "its bytes are not those that the lock pins", seen)


def _begin_to_write_back(copy: int, start: int, count: int) -> None:
    """Let the disk begin with what was written, so that fsync(2) has less to wait for: a quarter of the whole time.

    That is what Linux does first when pages are said not to be needed (mm/fadvise.c); those under way stay in memory.
    """
    os.posix_fadvise(copy, start, count, os.POSIX_FADV_DONTNEED)


def _read(file: int, block: memoryview, source: str) -> int:
    with told("read", source, "NNA1138"):
        return os.readv(file, [block])


def _need_plain(file: int, source: str, member: Member) -> None:
    status, program = os.fstat(file), member.program
    if not stat.S_ISREG(status.st_mode):
        raise _refused("NNA1138", source, member, "it is not a regular file")
    if status.st_nlink != 1:
        raise _refused("NNA1138", source, member, "it is a hard link to a file that has another name too")
    if status.st_size != program.size:
        raise _refused("NNA1114", source, member, "it has another length than the lock says",
                       f"{program.size} bytes are in the lock, {status.st_size} were unpacked")  # fmt: skip
    with told("read", source, "NNA1138"):
        found = architecture(os.pread(file, HEADER, 0))
    if found is not member.artifact.arch:
        cause = "it is a script" if found is Arch.SCRIPT else f"it is no program for {member.artifact.arch}"
        raise _refused("NNA1120", source, member, cause)


def _refused(code: str, source: str, member: Member, cause: str, *seen: str) -> ArtifactError:
    what = f"{member.program.name} of {member.artifact} is refused"
    return ArtifactError(code, what, cause=cause, seen=(source, *seen))


def stamp_of(status: os.stat_result) -> Stamp:
    """By what the file is known again."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def hashed(name: str, within: int) -> str:
    """The sha256 of the file of that name, in hex. Raises OSError."""
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with opened(name, READ, within) as file:
        while count := os.readv(file, [block]):
            digest.update(block[:count])
    return digest.hexdigest()
