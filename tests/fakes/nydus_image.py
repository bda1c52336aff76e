#!/usr/bin/python3
"""A converter that takes nydus-image's words and makes blobs of its own: for tests of what is done around the
real one.

As 2.2.0 does, `merge` takes the flags of the uppermost layer. A tar with a file called FAIL, HANG or INVALID
does that; one called STRANGE makes metadata of an unknown form, and SILENT makes it end well and write
nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import sys
import time
from pathlib import Path

FLAGS_AT, HAS_XATTR = 1024 + 128, 0x10


def bootstrap_of(flags: int, content: bytes) -> bytes:
    """The superblocks, as far as they are looked at; a tar with a file called STRANGE makes other ones."""
    magic = 0 if b"STRANGE" in content else 0xE0F5E1E2
    return bytes(1024) + struct.pack("<I", magic) + bytes(124) + struct.pack("<Q", flags) + content


def create(words: list[str]) -> None:
    if "targz-ref" in words:
        tar = gzip.decompress(Path(words[words.index("targz-ref") + 1]).read_bytes())
    else:
        tar = Path(words[-1]).read_bytes()
    if b"SILENT" in tar:
        print("done as asked")
        sys.exit()
    if b"FAIL" in tar:
        print("Error: no such luck", file=sys.stderr)
        sys.exit(3)
    if b"HANG" in tar:
        time.sleep(60)
    flags = HAS_XATTR if b"SCHILY.xattr." in tar else 0
    data = hashlib.sha256(tar).digest() * 200 if b"DATA" in tar else b""
    Path(words[words.index("--blob") + 1]).write_bytes(data)
    Path(words[words.index("--bootstrap") + 1]).write_bytes(
        bootstrap_of(flags, b"".join(word for word in (b"INVALID", b"STRANGE") if word in tar))
    )


def merge(words: list[str]) -> None:
    layers = words[words.index("--bootstrap") + 2 : words.index("--log-level")]
    made = b"".join(Path(layer).read_bytes()[FLAGS_AT + 8 :] + Path(layer).name.encode() for layer in layers)
    flags = struct.unpack_from("<Q", Path(layers[-1]).read_bytes(), FLAGS_AT)[0]
    Path(words[words.index("--bootstrap") + 1]).write_bytes(bootstrap_of(flags, made))


def check(words: list[str]) -> None:
    if b"INVALID" in Path(words[0]).read_bytes():
        print("Error: invalid", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        print("Version: \tunknown")  # as a build from the crate
        sys.exit()
    {"create": create, "merge": merge, "check": check}[sys.argv[1]](sys.argv[2:])
