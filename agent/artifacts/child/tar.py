"""A tar archive (POSIX "ustar" and GNU), walked as it comes. Only what a release needs is understood; whatever could
mean one thing here and another one elsewhere is refused, and so is all that is no plain file or directory.
"""

from __future__ import annotations

import re
from typing import NoReturn, Protocol

from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Limits
from agent.artifacts.refusals import Refusal

BLOCK = 512
_EXTENDED_CAP = 64 << 10
_SETUID, _SETGID = 0o4000, 0o2000

_REFUSED = {
    b"1": Refusal.HARDLINK,
    b"2": Refusal.SYMLINK,
    b"3": Refusal.CHARACTER_DEVICE,
    b"4": Refusal.BLOCK_DEVICE,
    b"6": Refusal.FIFO,
    b"S": Refusal.SPARSE,
    b"L": Refusal.LONG_NAME,
    b"K": Refusal.LONG_LINK,
}
_LINKS = (b"1", b"2")
_PAX = {
    "path": Refusal.PAX_PATH,
    "linkpath": Refusal.PAX_LINK,
    "size": Refusal.PAX_SIZE,
}


class Taker(Protocol):
    """Takes a member's content."""

    def write(self, chunk: memoryview) -> None:
        """The next bytes. Raises RefusedError."""

    def close(self) -> None:
        """That was all. Raises RefusedError."""


class Visitor(Protocol):
    """Decides what is taken out of an archive."""

    def member(self, path: str, size: int) -> Taker | None:
        """A regular file with a sound name; None: it is not wanted. Raises RefusedError."""


class Tar:
    """Fed with the archive's bytes. Raises RefusedError."""

    def __init__(self, limits: Limits, visitor: Visitor) -> None:
        self._limits, self._visitor = limits, visitor
        self._block = bytearray()
        self._members = 0
        self._left, self._padding = 0, 0
        self._taker: Taker | None = None
        self._extended: bytearray | None = None
        self._ending = 0  # empty blocks so far

    def feed(self, chunk: bytes) -> None:
        """The next bytes."""
        rest = memoryview(chunk)
        while rest:
            if self._left:
                rest = self._content(rest)
            elif self._padding:
                skipped = min(self._padding, len(rest))
                self._padding -= skipped
                rest = rest[skipped:]
            else:
                taken = rest[: BLOCK - len(self._block)]
                self._block += taken
                rest = rest[len(taken) :]
                if len(self._block) == BLOCK:
                    block, self._block = bytes(self._block), bytearray()
                    self._header(block)

    def end(self) -> None:
        """Nothing more comes."""
        if self._ending < 2 or self._block:
            raise RefusedError(
                Refusal.TAR_CUT if self._members else Refusal.NOT_TAR,
                f"{self._members} members had begun, {self._left} bytes are missing",
            )

    def _content(self, rest: memoryview) -> memoryview:
        piece = rest[: self._left]
        self._left -= len(piece)
        if self._taker is not None:
            self._taker.write(piece)
        if self._extended is not None:
            self._extended += piece
        if not self._left:
            self._close()
        return rest[len(piece) :]

    def _close(self) -> None:
        if self._taker is not None:
            self._taker.close()
        if self._extended is not None:
            _look_at_pax(bytes(self._extended))
        self._taker = self._extended = None

    def _header(self, block: bytes) -> None:
        if not any(block):
            self._ending += 1
            return
        if self._ending:
            raise RefusedError(Refusal.TAR_TRAILING, f"it begins with {block[:32]!r}")
        of_tar = block[257:262] == b"ustar"
        if not of_tar or not _sum_is_right(block):
            wrong = Refusal.TAR_HEADER if self._members or of_tar else Refusal.NOT_TAR
            other = "" if of_tar else ", and is of another kind of tar"
            raise RefusedError(wrong, f"it begins with {block[:16]!r}{other}")
        self._members += 1
        if self._members > self._limits.members:
            raise RefusedError(Refusal.MEMBERS, f"more than {self._limits.members}")
        kind = block[156:157]
        path = _path(block)
        size = _octal(block[124:136], path)
        if size > self._limits.unpacked:
            raise RefusedError(Refusal.MEMBER_SIZE, path, f"{size} bytes")
        self._left, self._padding = size, -size % BLOCK
        self._begin(kind, path, size, block)
        if not size:
            self._close()

    def _begin(self, kind: bytes, path: str, size: int, block: bytes) -> None:
        if kind in _REFUSED:
            _refuse_kind(kind, path, block)
        if kind in (b"x", b"g"):
            if size > _EXTENDED_CAP:
                raise RefusedError(Refusal.PAX_FORM, f"{size} bytes long")
            self._extended = bytearray()
            return
        sound = _sound(path)
        if kind == b"5" or (kind == b"\0" and path.endswith("/")):
            return
        if kind not in (b"0", b"\0"):
            raise RefusedError(Refusal.KIND, path, f"kind {kind!r}")
        mode = _octal(block[100:108], path)
        for bit, refusal in ((_SETUID, Refusal.SETUID), (_SETGID, Refusal.SETGID)):
            if mode & bit:
                raise RefusedError(refusal, path, f"mode {mode:o}")
        self._taker = self._visitor.member(sound, size)


def _refuse_kind(kind: bytes, path: str, block: bytes) -> NoReturn:
    target = block[157:257].partition(b"\0")[0].decode(errors="replace")
    raise RefusedError(_REFUSED[kind], f"{path} -> {target}" if kind in _LINKS else path)


def _sum_is_right(block: bytes) -> bool:
    told = block[148:156].strip(b" \0")
    return bool(re.fullmatch(rb"[0-7]{1,8}", told)) and int(told, 8) == sum(block) - sum(block[148:156]) + 8 * 32


def _octal(digits: bytes, path: str) -> int:
    told = digits.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{1,12}", told):
        raise RefusedError(Refusal.SIZE_NUMBER, path, f"it is {digits!r}")
    return int(told, 8)


def _path(block: bytes) -> str:
    """The member's path as it stands in the header, unprintable bytes included."""
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return name.decode(errors="backslashreplace")


def _sound(path: str) -> str:
    """A path that stays below where it would be unpacked, without "./". Raises RefusedError."""
    if path.startswith("/"):
        raise RefusedError(Refusal.ABSOLUTE, path)
    parts = path.split("/")
    if ".." in parts:
        raise RefusedError(Refusal.PARENT, path)
    if not path or not path.isprintable() or "\\" in path:
        raise RefusedError(Refusal.NAME, path)
    return "/".join(part for part in parts if part not in ("", "."))


def _look_at_pax(content: bytes) -> None:
    """Extended headers (pax(1)): times, owners and comments are of no use here, all else changes what a member is."""
    rest = content
    while rest:
        found = re.match(rb"([1-9][0-9]{0,5}) ([^=\n]{1,200})=", rest)
        length = int(found[1]) if found else 0
        if found is None or length > len(rest) or length <= found.end() or rest[length - 1 : length] != b"\n":
            raise RefusedError(Refusal.PAX_FORM, f"it begins with {rest[:32]!r}")
        key = found[2].decode(errors="backslashreplace")
        value = rest[found.end() : length - 1].decode(errors="backslashreplace")
        refusal = Refusal.SPARSE if key.startswith("GNU.sparse.") else _PAX.get(key)
        if refusal is not None:
            raise RefusedError(refusal, f"{key}={value}")
        rest = rest[length:]
