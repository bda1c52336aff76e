"""What is taken out of an archive: the programs that are wanted, each into the file that root has opened for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from agent.artifacts.child.refused import RefusedError
from agent.artifacts.lock import Artifact, Program
from agent.artifacts.refusals import Refusal
from agent.node import elf
from agent.node.facts import Arch

_HEAD = elf.HEADER
_CLASS, _DATA, _KIND = 4, 5, slice(16, 18)
_RUNNABLE = (2, 3)  # ET_EXEC, ET_DYN


class Programs:
    """The visitor of an archive. `files`: the descriptor for each program that is wanted."""

    def __init__(self, artifact: Artifact, files: Mapping[str, int]) -> None:
        self._artifact = artifact
        self._files = files
        self._pinned = {program.name: program for program in artifact.programs}
        self._begun: dict[str, str] = {}
        self.taken: dict[str, Program] = {}

    def member(self, path: str, size: int) -> _Taker | None:
        """See tar.Visitor."""
        name = path.rpartition("/")[2]
        if name not in self._files:
            return None
        if name in self._begun:
            raise RefusedError(Refusal.DUPLICATE, self._begun[name], path)
        self._begun[name] = path
        if size == 0:
            raise RefusedError(Refusal.EMPTY, path)
        pinned = self._pinned.get(name)
        if pinned is not None and pinned.size != size:
            raise RefusedError(Refusal.PROGRAM_SIZE, path, f"{size} bytes, and {pinned.size} are expected")
        return _Taker(self, path, size, self._artifact.arch, self._files[name])

    def took(self, path: str, size: int, digest: str) -> None:
        """A program is whole. Raises RefusedError."""
        name = path.rpartition("/")[2]
        pinned = self._pinned.get(name)
        if pinned is not None and pinned.sha256 != digest:
            raise RefusedError(Refusal.PROGRAM_DIGEST, path, f"sha256 {digest}, and {pinned.sha256} is expected")
        self.taken[name] = Program(name, size, digest)

    def end(self) -> tuple[Program, ...]:
        """All programs, in the order of the lock. Raises RefusedError where one is missing."""
        missing = [name for name in self._pinned if name not in self.taken]
        if missing:
            raise RefusedError(Refusal.MISSING, *missing)
        if self._artifact.name.main_program not in self.taken:
            raise RefusedError(Refusal.NO_PROGRAM, self._artifact.name.main_program)
        return tuple(self.taken[name] for name in self._files if name in self.taken)


class _Taker:
    def __init__(self, programs: Programs, path: str, size: int, arch: Arch, file: int) -> None:
        self._programs, self._path, self._size, self._arch, self._file = programs, path, size, arch, file
        self._digest = hashlib.sha256()
        self._head = b""

    def write(self, chunk: memoryview) -> None:
        """See tar.Taker. A program that cannot run here is refused by its first bytes."""
        if len(self._head) < _HEAD:
            self._head += bytes(chunk[: _HEAD - len(self._head)])
            if len(self._head) == _HEAD:
                look_at_head(self._head, self._arch, self._path)
        self._digest.update(chunk)
        write(self._file, chunk, self._path)

    def close(self) -> None:
        """See tar.Taker."""
        if len(self._head) < _HEAD:
            look_at_head(self._head, self._arch, self._path)
        self._programs.took(self._path, self._size, self._digest.hexdigest())


def write(file: int, chunk: memoryview, path: str) -> None:
    """Write all of it. Raises RefusedError."""
    rest = chunk
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError as error:
        raise RefusedError(Refusal.DISK, path, error.strerror or str(error)) from None


def look_at_head(head: bytes, arch: Arch, path: str) -> None:
    """Raises RefusedError where a program that begins so cannot run on this architecture (elf(5))."""
    found = elf.architecture(head)
    if found is arch and int.from_bytes(head[_KIND], "little") in _RUNNABLE:
        return
    if found is Arch.SCRIPT:
        raise RefusedError(Refusal.SCRIPT, path, f"it begins with {head!r}")
    if not head.startswith(b"\x7fELF") or len(head) < _HEAD:
        raise RefusedError(Refusal.NOT_ELF, path, f"it begins with {head!r}")
    if head[_CLASS] != 2:
        raise RefusedError(Refusal.ELF_32, path)
    if head[_DATA] != 1:
        raise RefusedError(Refusal.ELF_BIG_ENDIAN, path)
    if found is not arch:
        machine = found if found is not Arch.OTHER else f"machine {int.from_bytes(head[18:20], 'little')}"
        raise RefusedError(Refusal.ELF_MACHINE, path, f"it is for {machine}, and {arch} is expected")
    raise RefusedError(Refusal.ELF_KIND, path, f"type {int.from_bytes(head[_KIND], 'little')}")
