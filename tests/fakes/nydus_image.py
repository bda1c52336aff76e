#!/usr/bin/python3
"""A converter that takes nydus-image's words and makes blobs of its own: for tests of what is done around the real one.

As 2.2.0 does, `merge` takes the flags of the uppermost layer. A tar with a file called FAIL, HANG or INVALID does that;
one called SILENT makes it end well and write nothing, and one of ODD what it notes of a layer something else.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import sys
import time
from pathlib import Path

FLAGS_AT, HAS_XATTR = 1024 + 128, 0x10


def bootstrap_of(flags: int, content: bytes) -> bytes:
    """The superblocks, as far as they are looked at; a tar with a file called STRANGE makes other ones."""
    magic = 0 if b"STRANGE" in content else 0xE0F5E1E2
    return bytes(1024) + struct.pack("<I", magic) + bytes(124) + struct.pack("<Q", flags) + content


ODD = {
    b"NO-JSON": "{",
    b"NO-BLOBS": "{}",
    b"OTHER-BLOBS": '{"blobs": 7}',
    b"ODD-BLOBS": '{"blobs": [7]}',
    b"LIST": "[]",
}


def create(words: list[str]) -> None:
    by_reference = "--output-json" in words
    tar = Path(words[words.index("--output-json") + 2] if by_reference else words[-1]).read_bytes()
    if by_reference:
        tar = gzip.decompress(tar)
        told = json.dumps({"blobs": ["x"] if b"DATA" in tar else []})
        told = next((odd for word, odd in ODD.items() if word in tar), told)
        if b"SILENT" not in tar:
            Path(words[words.index("--output-json") + 1]).write_text(told)
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
    """With --verbose also as many files as a trial is to show: one that loses or forgets some is called so."""
    if words[0] == "--verbose":
        print("inode\n" * {"loses": 4, "forgets": 3}.get(Path(__file__).stem, 5), end="")
        return
    if b"INVALID" in Path(words[0]).read_bytes():
        print("Error: invalid", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        print("Version: \tunknown")  # as a build from the crate
        sys.exit()
    {"create": create, "merge": merge, "check": check}[sys.argv[1]](sys.argv[2:])
