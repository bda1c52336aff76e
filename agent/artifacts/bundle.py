"""A bundle: a lock and the archives that it pins in one file, for nodes without a network.

It is a plain tar (POSIX "ustar", readable by every tar) whose every byte beside the archives' own follows from the lock
inside: the lock comes first, restricted to what is there, then the archives in the lock's order, then two empty
blocks. So a reader need not understand headers that somebody may have forged. It reads the lock, makes the headers that
must stand there, and takes nothing where one byte differs. The archives' content is not looked at here: whoever takes
one out checks it against the lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from agent.artifacts.lock import SIZE_CAP, Artifact, Lock, parse, render
from agent.errors import ArtifactError
from agent.node.facts import Arch

LOCK_MEMBER = "artifacts.lock.toml"
BLOCK = 512
"""Bytes; headers, and what content is filled up to (pax(1), "ustar Interchange Format")."""

_NAME_CAP = 99  # bytes of a header's name field, with the zero that ends it
_MTIME = 315_532_800  # 1980-01-01: the same bytes whenever it is made, and no tar calls it implausible
_END = bytes(2 * BLOCK)
_SIZE_FIELD = slice(124, 136)

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""`read(offset, count)`: that many bytes from there, fewer only at the file's end."""


@dataclass(frozen=True, slots=True)
class Member:
    """One archive in a bundle."""

    artifact: Artifact
    name: str
    offset: int
    """Where its content begins in the file, in bytes; it is `artifact.size` long."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is in a bundle and where."""

    lock: Lock
    content: bytes
    """The lock as it is written inside."""
    members: tuple[Member, ...]
    length: int
    """Bytes of the whole file."""

    def member(self, artifact: Artifact) -> Member:
        """The member that holds this archive, found by its digest. Raises ArtifactError (NNA1123)."""
        for member in self.members:
            if (member.artifact.sha256, member.artifact.size) == (artifact.sha256, artifact.size):
                return member
        raise ArtifactError(
            "NNA1123",
            f"the bundle does not hold {artifact}",
            cause="no archive inside has the digest and the size that the lock pins",
            seen=tuple(f"inside: {member.artifact}" for member in self.members),
        )

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """All bytes beside the archives' own: (offset, bytes), in the order of the file."""
        yield 0, header(LOCK_MEMBER, len(self.content)) + self.content + _padding(len(self.content))
        for member in self.members:
            yield member.offset - BLOCK, header(member.name, member.artifact.size)
            if member.artifact.size % BLOCK:
                yield member.offset + member.artifact.size, _padding(member.artifact.size)
        yield self.length - len(_END), _END


def for_architectures(lock: Lock, architectures: Iterable[Arch]) -> tuple[Artifact, ...]:
    """Every artifact of a lock for these architectures. Raises ArtifactError (NNA1107) where one has none."""
    wanted = set(architectures)
    missing = sorted(wanted - {artifact.arch for artifact in lock.artifacts})
    if missing:
        raise ArtifactError(
            "NNA1107",
            f"the lock holds nothing for {', '.join(missing)}",
            cause="no artifact in it is for that architecture",
            seen=tuple(map(str, lock.artifacts)),
        )
    return tuple(artifact for artifact in lock.artifacts if artifact.arch in wanted)


def planned(lock: Lock, artifacts: Iterable[Artifact]) -> Bundle:
    """The bundle of these artifacts of a lock, to be written, with nothing in it yet.

    Raises ArtifactError (NNA1125): none, or two archives that would have one name.
    """
    chosen = set(artifacts)
    inside = replace(lock, artifacts=tuple(artifact for artifact in lock.artifacts if artifact in chosen))
    return _laid_out(inside, render(inside))


def opened(read: ReadAt, length: int, path: str) -> Bundle:
    """The bundle in a file of `length` bytes, which was found at `path`.

    Raises ArtifactError: NNA1123 where it is not one byte for byte; and all that `lock.parse` says of the lock inside,
    which it calls "PATH(artifacts.lock.toml)".
    """
    size = _lock_size(read(0, BLOCK), path)
    content = read(BLOCK, size)
    if len(content) != size:
        raise _broken(path, f"it ends within the lock, after {length} bytes")
    bundle = _laid_out(parse(content, f"{path}({LOCK_MEMBER})"), content)
    if bundle.length != length:
        raise _broken(path, f"it is {length} bytes long, and what its lock names makes {bundle.length}")
    for offset, expected in bundle.frames():
        if read(offset, len(expected)) != expected:
            raise _broken(path, f"what stands at byte {offset} does not follow from its lock")
    return bundle


def header(name: str, size: int) -> bytes:
    """The block before a regular file's content: root's, 0644, always of the same time."""
    fields = (
        name.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0",
        b"%011o\0" % size, b"%011o\0" % _MTIME, b" " * 8, b"0", bytes(100), b"ustar\x0000",
        bytes(64), b"0000000\0", b"0000000\0", bytes(167),
    )  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _laid_out(lock: Lock, content: bytes) -> Bundle:
    if not lock.artifacts:
        raise _unfit("a bundle of nothing", "the lock has no artifact of what was asked for")
    members: list[Member] = []
    offset = BLOCK + _filled(len(content))
    for artifact in lock.artifacts:
        name = artifact.archive
        if name in (LOCK_MEMBER, *(member.name for member in members)) or len(name) > _NAME_CAP:
            raise _unfit(
                f"{artifact} cannot be called {name!r} in a bundle", "another file is called so, or it is too long"
            )
        members.append(Member(artifact, name, offset + BLOCK))
        offset += BLOCK + _filled(artifact.size)
    return Bundle(lock, content, tuple(members), offset + len(_END))


def _lock_size(block: bytes, path: str) -> int:
    digits = block[_SIZE_FIELD].rstrip(b"\0")
    size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else 0
    if not 0 < size <= SIZE_CAP or block != header(LOCK_MEMBER, size):
        raise _broken(path, f"it does not begin as a bundle does, with {LOCK_MEMBER}")
    return size


def _filled(size: int) -> int:
    return size + len(_padding(size))


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def _unfit(what: str, cause: str) -> ArtifactError:
    return ArtifactError("NNA1125", what, cause=cause)


def _broken(path: str, cause: str) -> ArtifactError:
    return ArtifactError("NNA1123", f"{path} is not a bundle", cause=cause, try_="nydus-agent artifacts bundle --help")
