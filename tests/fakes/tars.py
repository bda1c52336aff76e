"""Tar and gzip by hand, so that each field can be wrong on purpose."""

from __future__ import annotations

import zlib

BLOCK = 512


def header(
    name: str | bytes,
    size: int = 0,
    *,
    kind: bytes = b"0",
    mode: int = 0o755,
    link: str = "",
    magic: bytes = b"ustar  \0",
    size_field: bytes | None = None,
    checksum: bytes | None = None,
    prefix: str = "",
) -> bytes:
    """A member's header (GNU's magic, as upstream's archives have it)."""
    block = b"".join((
        (name.encode() if isinstance(name, str) else name).ljust(100, b"\0"),
        b"%07o\0" % mode, b"0000000\0", b"0000000\0",
        (b"%011o\0" % size if size_field is None else size_field.ljust(12, b"\0")),
        b"15057371000\0", b" " * 8, kind, link.encode().ljust(100, b"\0"), magic,
        b"root".ljust(32, b"\0"), b"root".ljust(32, b"\0"), b"0000000\0", b"0000000\0",
        prefix.encode().ljust(155, b"\0"),
    )).ljust(BLOCK, b"\0")  # fmt: skip
    return block[:148] + (b"%06o\0 " % sum(block) if checksum is None else checksum) + block[156:]


def member(name: str | bytes, content: bytes = b"", **fields: object) -> bytes:
    """A member with its content; `fields` as `header` has them."""
    # Passed on as they are.
    head = header(name, fields.pop("size", len(content)), **fields)  # type: ignore[arg-type]
    return head + content + bytes(-len(content) % BLOCK)


def archive(*members: bytes, end: bytes = bytes(2 * BLOCK)) -> bytes:
    """A whole archive."""
    return b"".join(members) + end


def pax(**records: str) -> bytes:
    """An extended header for the next member; "_" in a key stands for "."."""
    return member("PaxHeaders/x", _lines(records), kind=b"x")


def _lines(records: dict[str, str]) -> bytes:
    content = b""
    for key, value in records.items():
        rest = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        content += str(length).encode() + rest
    return content


def holes(name: str) -> bytes:
    """The header of a sparse file as GNU had it first, whose list of holes goes on behind it."""
    block = header(name, kind=b"S")
    block = block[:482] + b"\x01" + b"%011o\0" % 9 + block[495:]
    return block[:148] + b"%06o\0 " % sum(block[:148] + b" " * 8 + block[156:]) + block[156:]


def gz(content: bytes, level: int = 1) -> bytes:
    """One gzip member."""
    packer = zlib.compressobj(level, wbits=31)
    return packer.compress(content) + packer.flush()
